"""Near-duplicates between tasks: what is removed, for which kept document, and that datatrove's filter reads it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import HashConfig
from fox1.datatrove.pipeline.dedup import MinhashConfig, MinhashDedupDecide, MinhashDedupFilter, MinhashDedupSignature

RANDOM = random.Random(5)
WORDS = ["".join(RANDOM.choices("abcdefghijklmnop", k=RANDOM.randrange(3, 9))) for _ in range(3000)]


def text(seed: int, words: int = 300) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def tasks() -> list[list[str]]:
    """Two tasks: near and exact duplicates within and between them, and texts that share a band's worth and no more."""
    one, two, three = text(1), text(2), text(3)
    near = " ".join([*one.split()[:-6], "and", "an", "end"])
    half = " ".join(two.split()[:150]) + " " + text(9, 150)
    return [[one, two, near, "short"], [three, one.upper(), half, two + " more", "short", "\ud800 alone", ""]]


def decide(folder: Path, texts: list[list[str]], **arguments: object) -> MinhashDedupDecide:
    for rank, strings in enumerate(texts):
        step = MinhashDedupSignature(str(folder / "signatures"))
        step.run(iter([Document(s, f"{rank}/{k}") for k, s in enumerate(strings)]), rank, len(texts))
        assert step.stats.stats.to_dict() == {"total": len(strings)}
    step = MinhashDedupDecide(str(folder / "signatures"), str(folder / "remove"), **arguments)
    step.run()
    return step


def test_a_document_is_removed_for_a_kept_one_that_is_like_it(tmp_path: Path) -> None:
    step = decide(tmp_path, tasks(), save_cluster_id=True, save_cluster_size=True)
    removed = [np.fromfile(tmp_path / "remove" / f"{rank:06d}.remove", "<u4").tolist() for rank in range(2)]
    assert removed == [[2], [1, 3, 4]]
    clusters = np.fromfile(tmp_path / "remove" / "000001.clusters", "<u4").reshape(-1, 2)
    sizes = np.fromfile(tmp_path / "remove" / "000000.sizes", "<u4").reshape(-1, 2)
    assert clusters.tolist() == [[1, 0], [3, 1], [4, 2]] and sizes.tolist() == [[0, 3], [1, 2], [2, 3], [3, 2]]
    stats = step.stats.stats.to_dict()
    assert stats["duplicates"]["total"] == 7 and stats["to_remove"]["total"] == 4 and stats["clusters"]["total"] == 3


def test_datatroves_filter_reads_what_is_removed(tmp_path: Path) -> None:
    decide(tmp_path, tasks(), save_cluster_id=True, save_cluster_size=True)
    last = MinhashDedupFilter(str(tmp_path / "remove"), load_cluster_ids=True, load_cluster_sizes=True)
    documents = [Document(s, str(k)) for k, s in enumerate(tasks()[1])]
    kept = list(last.run(iter(documents), 1, 2))
    assert [d.id for d in kept] == ["0", "2", "5", "6"]
    assert {d.metadata["minhash_cluster_id"] for d in kept} == {-1}
    kept = list(last.run(iter([Document(s, str(k)) for k, s in enumerate(tasks()[0])]), 0, 2))
    assert [(d.id, d.metadata["minhash_cluster_id"], d.metadata["minhash_cluster_size"]) for d in kept] == [
        ("0", 0, 3),
        ("1", 1, 2),
        ("3", 2, 2),
    ]


def test_a_chain_of_changes_is_not_removed_for_its_first_link(tmp_path: Path) -> None:
    """Each text is like the one before it, and the last is not like the first."""
    words = text(4, 400).split()
    chain = [" ".join(words[20 * k : 20 * k + 300]) for k in range(6)]
    decide(tmp_path, [chain])
    removed = np.fromfile(tmp_path / "remove" / "000000.remove", "<u4").tolist()
    assert 1 in removed and len(removed) < 5
    for k in removed:
        shared = [len(set(chain[k].split()) & set(chain[j].split())) for j in range(k) if j not in removed]
        assert max(shared) > 230


def test_signatures_of_other_settings_are_refused(tmp_path: Path) -> None:
    decide(tmp_path, tasks())
    folders = str(tmp_path / "signatures"), str(tmp_path / "remove")
    with pytest.raises(ValueError, match=r"00000\.signatures was signed with other settings"):
        MinhashDedupDecide(*folders, config=MinhashConfig(num_buckets=9)).run()
    with pytest.raises(ValueError, match="set tasks=1"):
        MinhashDedupDecide(*folders).run(None, 0, 2)
    with pytest.raises(ValueError, match="run MinhashDedupSignature first"):
        MinhashDedupDecide(str(tmp_path / "nothing"), folders[1]).run()
    with pytest.raises(ValueError, match="norm_config and hash_config"):
        MinhashDedupSignature(folders[0], MinhashConfig(hash_config=HashConfig(precision=32)))
