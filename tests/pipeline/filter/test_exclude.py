"""Documents taken out on request: they and their copies go, from every set, and only what they touched is made again."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.commands.app import app
from fox1.pipeline.dedupe.order import UrlSettings
from fox1.pipeline.filter.exclude import key_of, split_entry
from fox1.pipeline.filter.judge import FilterSettings, Section
from fox1.pipeline.mix import assign
from fox1.pipeline.signals.content import written
from typer.testing import CliRunner

from tests.conftest import SMALL, read_stored, write_stored
from tests.faults.promises import hashes
from tests.pipeline.dedupe.test_dedupe import decisions, sentence, settings_for, write
from tests.pipeline.filter.test_scores import texts as scored_texts
from tests.pipeline.filter.test_scores import write as write_with_urls

Row = dict[str, Any]


def near(words: list[str]) -> str:
    return " ".join([*words[:-2], "changed", "end"])


def reasons(rows: list[Row]) -> dict[tuple[str, str, int], str]:
    return {(r["corpus"], r["file"], r["row"]): r["reason"] for r in rows}


@pytest.mark.parametrize("scope", ["all", "across", "within"])
def test_all_copies_of_an_excluded_document_go(tmp_path: Path, curate: Callable[..., Any], scope: str) -> None:
    """Exact and near ones, of better corpora, of the same, exempt and held-out ones; and of a document that a filter drops."""
    rng = random.Random(1)
    words, other, short = sentence(rng), " ".join(sentence(rng)), sentence(rng, 60)
    text = " ".join(words)
    write(tmp_path, "best", [text.replace(" ", "\n"), near(words), other])
    write(tmp_path, "low", [text, other, " ".join(short), text])
    write(tmp_path, "exempt", [near(words), " ".join([*short, *short[-3:]]), other])
    write(tmp_path, "best", [text, " ".join(sentence(rng))], "val")
    listed = tmp_path / "list.txt"
    listed.write_text("# asked for\nlow/a.jsonl#0\nlow/a.jsonl#2\n\n")
    settings = settings_for(
        tmp_path, "best", "low", "exempt", held_out="best", scope=scope, exempt=("exempt",), jaccard=0.75
    )
    filters = FilterSettings((Section("all", (("min_words", 62),)),))
    settings = replace(settings, exclude_lists=(str(listed),), filter=filters)
    curate(settings, tmp_path / "run", "prepare", "scan", "filter", "dedupe")
    rows = decisions(tmp_path / "run")
    found = reasons(rows)
    gone = {key for key, reason in found.items() if reason == "excluded"}
    assert gone == {
        ("low", "a.jsonl", 0),
        ("low", "a.jsonl", 2),
        ("low", "a.jsonl", 3),
        ("best", "a.jsonl", 0),
        ("best", "a.jsonl", 1),
        ("best", "val.jsonl", 0),
        ("exempt", "a.jsonl", 0),
        ("exempt", "a.jsonl", 1),
    }
    named = {r["doc_id"] for r in rows if r["corpus"] == "low" and r["row"] in (0, 2)}
    for r in rows:
        if r["reason"] == "excluded" and r["doc_id"] not in named:
            assert r["duplicate_of"] in named and r["similarity"] > 0.75 and r["kind"] in ("exact", "near")
            assert r["reasons"] == ["excluded"] and not r["kept"]
    assert found["best", "a.jsonl", 2] == found["best", "val.jsonl", 1] == ""

    alone = replace(settings, dedupe=replace(settings.dedupe, excluded_copies=False))
    curate(alone, tmp_path / "alone", "prepare", "scan", "filter", "dedupe")
    rows = decisions(tmp_path / "alone")
    assert {r["doc_id"] for r in rows if r["reason"] == "excluded"} == named
    assert reasons(rows)["best", "val.jsonl", 0] == ""


def test_an_excluded_document_does_not_replace_other_pages_of_its_url(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(2)
    (tmp_path / "web").mkdir()
    rows = [
        {"content": " ".join(sentence(rng)), "url": "https://a.org/x", "timestamp": f"2023-01-0{day}T00:00:00Z"}
        for day in (1, 2, 3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "web" / "a.parquet")
    listed = tmp_path / "list.txt"
    listed.write_text("web/a.parquet#2\n")
    settings = settings_for(tmp_path, "web", url=UrlSettings(("web",), "newest"))
    source = replace(settings.sources[0], format="refinedweb")
    settings = replace(settings, sources=(source,), exclude_lists=(str(listed),))
    curate(settings, tmp_path / "run", "prepare", "scan", "filter", "dedupe")
    found = reasons(decisions(tmp_path / "run"))
    assert [found["web", "a.parquet", row] for row in range(3)] == ["url_duplicate", "", "excluded"]


def trained(run: Path) -> dict[int, int]:
    """Document id -> segments in the phases."""
    from collections import Counter

    found: Counter[int] = Counter()
    for path in (run / "phases").rglob("*.arrow"):
        with pa.memory_map(str(path)) as source:
            for batch in pa.ipc.open_stream(source):
                found.update(batch.column("doc_ids").flatten().to_pylist())
    return found


def without_text(path: Path, rows: set[int]) -> None:
    """Rewrite a source file with empty texts in some rows."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        texts = ["" if i in rows else t for i, t in enumerate(table.column("content").to_pylist())]
        at = table.schema.get_field_index("content")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(texts, table.schema.field(at).type)), path)
        return
    lines = read_stored(path).splitlines()
    for row in rows:
        lines[row] = json.dumps(json.loads(lines[row]) | {"text": ""}).encode()
    write_stored(path, b"\n".join(lines) + b"\n")


@pytest.mark.early
def test_a_run_without_listed_documents_is_that_of_sources_without_them(
    tmp_path: Path,
    corpora: Path,
    run: Path,
    settings_of: Callable[..., Any],
    curate: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assign, "PARTITION_TOKENS", 1024)
    # A tokenizer and a quality score that the text of a few documents does not change.
    facts = (f"tokenizer.model={run / 'prepare' / 'tokenizer.model'}", "quality={}")
    out, clean, blank = tmp_path / "run", tmp_path / "clean", tmp_path / "blank"
    from fox1.pipeline.run.manifest import run_files
    from fox1.pipeline.run.paths import RunPaths
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import training_json

    def files(of: Path, *more: str) -> Any:
        recipe, resolved = load_recipe("sample", [*SMALL, *facts, *more], {"FOX1_DATA": str(corpora)})
        return run_files(RunPaths(of), resolved, training_json(recipe))

    curate(settings_of(*facts), out)
    before = trained(out)

    # A page by its URL, a document by its native id, one by its content, one by its row; copies among them.
    rows = {r["doc_id"]: r for r in decisions(out)}
    entries, named = [], set[int]()
    signals = [s for p in sorted((out / "signals").rglob("*.parquet")) for s in pq.read_table(p).to_pylist()]
    clusters = [s for s in signals if rows[s["doc_id"]]["cluster_size"] > 1 and s["doc_id"] in before]
    by_hash, by_row = clusters[0], clusters[-1]
    entries += [written(by_hash["content_hash"])]
    entries += [f"{rows[by_row['doc_id']]['corpus']}/{rows[by_row['doc_id']]['file']}#{by_row['row']}"]
    page = next(s for s in signals if s["url_hash"] and s["doc_id"] in before and s not in (by_hash, by_row))
    other = next(s for s in signals if s["native_id_hash"] and s["doc_id"] in before and s is not page)
    for kind, s in (("url", page), ("id", other)):
        r = rows[s["doc_id"]]
        entries.append(native(corpora / r["corpus"] / r["file"], s["row"], kind))
    named |= {s["doc_id"] for s in (by_hash, by_row, page, other)}
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*entries, "id:nobody has this"]) + "\n")

    told = CliRunner().invoke(app, ["find", str(out), "--exclude", str(listed)])
    assert told.exit_code == 0 and told.output.count(": trained on") >= 4 and "id:nobody has this: 0 doc" in told.output

    settings = settings_of(*facts, f"exclude.lists=[{listed}]")
    summary, _ = curate(settings, out, files=files(out, f"exclude.lists=[{listed}]"))
    assert summary.notes == ["exclude: 1 of 5 entries name no document of this run, e.g. id:nobody has this"]
    reused, partitions = summary.reused["mix.pack"]
    assert partitions > 25 and partitions / 2 < reused < partitions
    assert summary.reused["scan"][0] == summary.reused["scan"][1] and "prepare" in summary.reused

    rows = {r["doc_id"]: r for r in decisions(out)}
    gone = {i for i, r in rows.items() if r["reason"] == "excluded"}
    after = trained(out)
    assert named <= gone and len(gone) > len(named) and not gone & set(after)
    told = CliRunner().invoke(app, ["find", str(out), "--exclude", str(listed)])
    assert told.exit_code == 1 and ": trained on" not in told.output and "dropped: excluded" in told.output
    funnel = json.loads((out / "stats" / "funnel.json").read_text())
    assert sum(c["dropped"].get("excluded", 0) for c in funnel["corpora"]) == len(gone)

    curate(settings, clean, files=files(clean, f"exclude.lists=[{listed}]"))
    assert hashes(out) == hashes(clean)

    # The same sources without these texts give the same blocks and held-out set.
    shutil.copytree(corpora, tmp_path / "corpora")
    touched: dict[Path, set[int]] = {}
    for i in gone:
        touched.setdefault(tmp_path / "corpora" / rows[i]["corpus"] / rows[i]["file"], set()).add(rows[i]["row"])
    for path, places in touched.items():
        without_text(path, places)
    curate(settings_of(*facts, data=tmp_path / "corpora"), blank)
    blocks = {name: h for name, h in hashes(out).items() if name.endswith(".arrow") and not name.startswith("prepare")}
    same = hashes(blank)
    assert blocks and all(same[name] == h for name, h in blocks.items() if name.startswith(("phases", "held_out")))


def native(path: Path, row: int, kind: str) -> str:
    """An exclude list's entry for a row, from the source file."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).column("url")[row])
    value = json.loads(read_stored(path).splitlines()[row])
    meta = value.get("meta") or value.get("metadata") or {}
    meta = json.loads(meta) if isinstance(meta, str) else meta
    return f"id:{value['id']}" if kind == "id" else f"url:{meta['url']}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "is no corpus/file#row"),
        ("blake3:12", "is no content hash; write blake3: and 32 hexadecimal digits"),
        (f"hash:{'0a' * 16}", "is a content hash of an earlier version of fox1.*write blake3:"),
        ("other/file#3", "is of the corpus 'other'"),
        ("o\x1bther/\tfi\0le#3", "is of the corpus"),
        (f"hash:z\x1bz:{'0f' * 16}", "of an earlier version"),
        ("low/a.jsonl#99999999999", "beyond the last id"),
        ("id:", "is no corpus/file#row"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_line(
    tmp_path: Path, curate: Callable[..., Any], line: str, why: str
) -> None:
    write(tmp_path, "low", ["some words " * 50])
    listed = tmp_path / "list.txt"
    listed.write_text(f"low/a.jsonl#0\n{line}\n")
    settings = replace(settings_for(tmp_path, "low"), exclude_lists=(str(listed),))
    with pytest.raises(ValueError, match=f"list.txt, line 2: .*{why}") as refused:
        curate(settings, tmp_path / "run", "prepare")
    assert str(refused.value).isprintable()
    missing = replace(settings, exclude_lists=(str(tmp_path / "none.txt"),))
    with pytest.raises(ValueError, match=r"none.txt cannot be read"):
        curate(missing, tmp_path / "run", "prepare")


def test_a_host_takes_out_its_documents_and_their_copies(tmp_path: Path, curate: Callable[..., Any]) -> None:
    texts = scored_texts(4)
    write_with_urls(tmp_path, [*texts, texts[1]])  # of https://www.site0.org/x and so on
    listed = tmp_path / "list.txt"
    listed.write_text("host:site1.org\nhost:www.site3.org\nhost:site9.org\nhost:ite0.org\n")
    settings = settings_for(tmp_path, "dolma")
    sources = (replace(settings.sources[0], format="dolma"),)
    settings = replace(settings, sources=sources, exclude_lists=(str(listed),))
    summary, _ = curate(settings, tmp_path / "run", "prepare", "scan", "filter", "dedupe")
    found = {r["row"]: r["reason"] for r in decisions(tmp_path / "run")}
    assert found == {0: "", 1: "excluded", 2: "", 3: "excluded", 4: "excluded"}
    assert any("2 of 4 entries name no document of this run, e.g. host:" in note for note in summary.notes)


def test_entries_name_what_the_scan_stores() -> None:
    assert split_entry("host:a.org") == ("host", "a.org")
    assert key_of("host", "*.A.org.", (), 0) == key_of("host", "a.org", (), 0)
    assert split_entry("http://a.org/x#1") == ("url", "http://a.org/x#1")
    assert split_entry("123") == ("row", "123")
    assert key_of(*split_entry("https://www.A.org/x/"), (), 0) == key_of(*split_entry("url:http://a.org/x"), (), 0)
