"""Scan as a whole: edits and what is judged after them, plug-ins, prepared artifacts, bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.prepare.benchmarks import BenchmarkSettings, Item, read_items
from fox1.pipeline.prepare.contamination import ContaminationSettings, build
from fox1.pipeline.run.identity import SourceFile, file_hash
from fox1.pipeline.signals.plugins import Judged, Plugin, PluginSettings, load_plugins, with_version
from fox1.pipeline.signals.quality import BUCKETS, QualityModels
from fox1.pipeline.signals.scan import EditSettings, Models, ScanSettings, pieces, scan_piece, scanned_schema
from fox1.pipeline.signals.urls import parse_rules
from fox1.pipeline.sources.text_schema import TEXT_SCHEMA
from fox1.pipeline.text.edits import apply_edits, kind_name

FILE = SourceFile("pile", "x.jsonl", "", 0, "", "pile", False, file_hash("pile", "x.jsonl"))
ITEM = "Mirela picks fourteen baskets of ripe apples in the old orchard and each basket holds twenty three apples"


def rows(*texts: str, subset: str = "Pile-CC", url: str = "") -> pa.RecordBatch:
    n = len(texts)
    columns = [range(n), texts, [subset] * n, [""] * n, [url] * n, [0] * n]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)


def prepared() -> Models:
    import numpy as np

    index, _ = build([Item(questions=(ITEM,), benchmark="b", file="f", row=0)], ContaminationSettings())
    return Models(QualityModels((), np.zeros((0, BUCKETS), np.int16)), index, parse_rules(["bad.com"]))


def scan(batch: pa.RecordBatch, settings: ScanSettings = ScanSettings()) -> pa.RecordBatch:
    return scan_piece(batch, FILE, settings, scanned_schema(settings), prepared(), load_plugins(settings.plugins))


EDITS = EditSettings(
    pii=(("email", "<email>"), ("phone", "<phone>")), lines=(("web", ("javascript", "policy")),), cut_contamination=True
)


def test_edits_of_every_kind_are_applied_and_counts_are_of_the_edited_text() -> None:
    text = (
        f"Write to joe@example.com or call (212) 555-0123.\r\nPlease enable JavaScript.\n\n{ITEM}. Then home.\n"
        "Read our privacy policy at joe@example.com"
    )
    plain = "Nothing to change here."
    batch = rows(text, plain)
    signals = scan(batch, ScanSettings(edits=EDITS))
    final = apply_edits(batch.column("text"), signals.column("edits")).to_pylist()
    assert final == ["Write to <email> or call <phone>.\r\n\n. Then home.\n", plain]
    alone = scan(rows(*final))
    for name in ("n_bytes", "n_chars", "n_words", "n_lines", "n_sentences", "n_javascript_lines"):
        assert signals.column(name) == alone.column(name), name
    # Hashes and signatures are of the raw text, and so is what edits replaced.
    raw = scan(rows(text, plain))
    for name in ("content_hash", "band_signature", "sketch", "n_email_spans", "contaminated", "raw_bytes"):
        assert signals.column(name) == raw.column(name), name
    assert signals.column("n_email_spans").to_pylist() == [2, 0]
    kinds = [e["kind"] for e in signals.column("edits")[0].as_py()]
    assert kinds == [3, 6, 1, 2, 1]


def test_lines_are_dropped_only_in_the_domains_the_recipe_names() -> None:
    batch = rows("Enable JavaScript now.\nText.", subset="Github")
    assert scan(batch, ScanSettings(edits=EDITS)).column("edits").to_pylist() == [[]]


def test_lines_that_are_judged_without_citation_markers_lose_them() -> None:
    text = (
        "The mill burnt down in 1788, it is said.[4]\nOld mill, side view\n"
        "Few doubt it[citation needed]; none of them asked.[edit]\nIts ruin[5]"
    )
    batch = rows(text)
    for rules, expected in (
        (
            ("no_terminal_punctuation", "few_words"),
            "The mill burnt down in 1788, it is said.\nFew doubt it; none of them asked.\n",
        ),
        (
            ("citations",),
            text.replace("[4]", "").replace("[citation needed]", "").replace("[edit]", "").replace("[5]", ""),
        ),
        (("javascript", "policy"), text),
    ):
        signals = scan(batch, ScanSettings(edits=EditSettings(lines=(("web", rules),))))
        assert apply_edits(batch.column("text"), signals.column("edits")).to_pylist() == [expected]
    # What is personal data is replaced, not removed as a marker.
    card = rows("She paid with this[4111111111111111].")
    signals = scan(card, ScanSettings(edits=EditSettings((("card", "<card>"),), (("web", ("citations",)),))))
    assert apply_edits(card.column("text"), signals.column("edits")).to_pylist() == ["She paid with this<card>."]


def test_contamination_and_urls_are_columns() -> None:
    signals = scan(rows(f"Before {ITEM.upper()}", "clean", url="https://www.bad.com/x"))
    assert signals.column("contaminated").to_pylist() == [1, 0]
    assert signals.column("contamination_items").to_pylist() == [[0], []]
    assert signals.column("url_blocked").to_pylist() == [1, 1]


def test_pieces_and_batches_do_not_change_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.signals import scan as module

    texts = [f"{'word ' * (k % 50)} joe{k}@example.com e\u0301 {'漢字' * (k % 7)}\n" * 3 for k in range(60)]
    batch = rows(*texts)
    whole = scan(batch, ScanSettings(edits=EDITS))
    monkeypatch.setattr(module, "PIECE_BYTES", 500)
    parts = [scan(piece, ScanSettings(edits=EDITS)) for piece in pieces(batch)]
    assert len(parts) > 10
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([whole]))


def keep_foxes(text: str, row: dict[str, Any], animal: str = "fox") -> bool | str:
    return True if animal in text else f"no_{animal}"


def broken(text: str, row: dict[str, Any]) -> int:
    return 3


class Emptied:
    """A filter that spoils its document."""

    text: Any = None

    def filter(self, document: Any) -> bool:
        document.text = self.text
        return True


class Halved(Emptied):
    text = "\ud800"


class Shouting:
    """A formatter."""

    def format(self, text: str) -> str:
        return text.replace("quiet", "QUIET")


class Titles(Emptied):
    """Cuts the first line, and drops documents that have none to spare."""

    def filter(self, document: Any) -> bool:
        _, _, document.text = document.text.partition("\n")
        return bool(document.text)


def ends_quiet(text: str, row: Any) -> bool:
    return text.endswith("QUIET")


HERE = f"{Path(__file__)}:"


def test_plugins_are_functions_and_datatrove_filters() -> None:
    plugins = (
        PluginSettings("foxes", f"{HERE}keep_foxes"),
        PluginSettings("hounds", f"{HERE}keep_foxes", '{"animal": "hound"}', ("code",)),
        PluginSettings("lower", "datatrove.pipeline.filters.RegexFilter", '{"regex_exp": "SECRET"}'),
        PluginSettings("gopher", "datatrove.pipeline.filters.GopherQualityFilter", '{"min_doc_words": 4}'),
    )
    signals = scan(rows("a fox and the hound that ran", "SECRET fox", "and the cat be"), ScanSettings(plugins=plugins))
    assert signals.column("plugin_foxes").to_pylist() == ["", "", "no_fox"]
    assert signals.column("plugin_hounds").to_pylist() == ["", "", ""]
    assert signals.column("plugin_lower").to_pylist() == ["", "lower", ""]
    assert signals.column("plugin_gopher").to_pylist()[1] == "gopher_short_doc"
    said = Plugin(plugins[0], lambda text, row: Judged((False, "why" * (text == "a")), text))
    assert [said.judge(text, {"row": 0}) for text in ("a", "b")] == [("why", "a"), ("foxes", "b")]
    assert with_version(plugins[2]).version and with_version(plugins[0]).version != with_version(plugins[2]).version


def test_what_a_plugin_changes_in_a_document_that_it_keeps_is_edits() -> None:
    prose = "\n".join(
        f"The ferry number {n} sailed past the lighthouse at dawn." for n in "one two three four five".split()
    )
    text = f"Menu | Search | Login\n{prose}\nWritten by ann@example.com, all rights kept\nLorem | Ipsum"
    plugin = PluginSettings("c4", "datatrove.pipeline.filters.C4QualityFilter")
    batch = rows(text, prose, "Too short.")
    signals = scan(batch, ScanSettings(edits=EditSettings(pii=(("email", "<email>"),)), plugins=(plugin,)))
    assert signals.column("plugin_c4").to_pylist() == ["", "", "too_few_sentences"]
    assert apply_edits(batch.column("text"), signals.column("edits")).to_pylist() == [prose, prose, "Too short."]
    edits = [[(e["start"], e["end"], kind_name(e["kind"])) for e in row] for row in signals.column("edits").to_pylist()]
    head = len("Menu | Search | Login\n")
    assert edits == [[(0, head, "plugin"), (head + len(prose), len(text), "plugin")], [], []]
    alone = scan(rows(prose, prose))
    for name in ("n_words", "n_lines", "n_chars"):
        assert signals.column(name).to_pylist()[:2] == alone.column(name).to_pylist()


def test_plugins_see_what_those_before_them_changed_and_rejected_documents_keep_their_text() -> None:
    plugins = tuple(
        PluginSettings(name.lower(), f"{HERE}{name}", domains=domains)
        for name, domains in (("Titles", ()), ("Shouting", ("web",)), ("ends_quiet", ()))
    )
    batch = rows("Title ü\nall is quiet", "all is quiet", "quiet\nloud")
    signals = scan(batch, ScanSettings(plugins=plugins))
    assert apply_edits(batch.column("text"), signals.column("edits")).to_pylist() == [
        "all is QUIET",
        "all is QUIET",
        "loud",
    ]
    assert signals.column("plugin_titles").to_pylist() == ["", "titles", ""]
    assert signals.column("plugin_ends_quiet").to_pylist() == ["", "", "ends_quiet"]
    code = rows("Title\nall is quiet", subset="Github")
    signals = scan(code, ScanSettings(plugins=plugins))
    assert apply_edits(code.column("text"), signals.column("edits")).to_pylist() == ["all is quiet"]


def test_any_change_of_a_plugin_s_package_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ours_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("from .helper import judge\n")
    (package / "helper.py").write_text("def judge(text, row): return True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = with_version(PluginSettings("ours", "ours_of_a_test.judge"))
    assert with_version(before) == before and before.version
    (package / "words.py").write_text("WORDS = ['a']\n")
    assert with_version(before).version != before.version


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (f"{HERE}broken", "returned int"),
        (f"{HERE}nosuch", "cannot import"),
        ("nosuch.module.f", "cannot import"),
        ("pathlib.Path", "no datatrove filter or formatter"),
        (f"{HERE}Emptied", "left something else than text without NUL in row 0"),
        (f"{HERE}Halved", "left something else than text without NUL in row 0"),
    ],
)
def test_a_bad_plugin_is_named(target: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"plug-in p.*{says}"):
        scan(rows("text"), ScanSettings(plugins=(PluginSettings("p", target),)))


def test_a_plugin_of_the_recipe_drops_with_its_name(
    settings_of: Callable[..., Any], curate: Callable[..., Any], tmp_path: Path
) -> None:
    regex = "{target: datatrove.pipeline.filters.RegexFilter, arguments: {regex_exp: import}, domains: [code]}"
    override = f"plugins={{no_import: {regex}}}"
    summary, _ = curate(settings_of(override), tmp_path / "run", "scan", "filter")
    dropped = sum(f.dropped.get("no_import", 0) for f in summary.funnels)
    assert dropped > 0
    rules = [
        t for p in (tmp_path / "run" / "filtered").rglob("*.parquet") for t in pq.read_table(p)["reasons"].to_pylist()
    ]
    assert sum("no_import" in r for r in rules) >= dropped


BENCHMARKS = {
    "arc": (
        '{"id":"x","question":{"stem":"Why?","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},"answerKey":"B"}',
        "b",
    ),
    "gsm8k": ('{"question":"How many?","answer":"1+1=<<1+1=2>>2\\n#### 2"}', "1+1=2\n#### 2"),
    "hellaswag": ('{"ctx":"A man","label":1,"endings":["x","y"]}', "y"),
    "winogrande": ('{"qID":"q","sentence":"a _ b","option1":"x","option2":"y","answer":"1"}', ""),
    "truthfulqa": ('{"question":"Why?","best_answer":"So."}', "So."),
    "mmlu": ('{"question":"Why?","choices":["a","b","c","d"],"answer":2}', "c"),
    "question_answer": ('{"question":"Why?","answer":4}', "4"),
}  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_format_is_read(name: str, tmp_path: Path) -> None:
    line, answer = BENCHMARKS[name]
    (tmp_path / "a.jsonl").write_text(line + "\n")
    settings = BenchmarkSettings("b", name, (f"{tmp_path}/*.jsonl",))
    (item,) = read_items(settings)
    assert item.answers[:1] == ((answer,) if answer else ()) and item.row == 0 and all(item.questions)
    (tmp_path / "a.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(ValueError, match=rf"benchmark b: row 0 of a.jsonl is not a {name} item"):
        list(read_items(settings))
    with pytest.raises(ValueError, match="no file matches"):
        list(read_items(BenchmarkSettings("b", name, (f"{tmp_path}/*.csv",))))


def test_mmlu_and_truthfulqa_are_read_as_their_authors_publish_them(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('"Which, of these?",w,x,y,z,C\n')
    (tmp_path / "t.csv").write_text("Type,Category,Question,Best Answer\nA,B,Why?,So.\n")
    (mmlu,) = read_items(BenchmarkSettings("m", "mmlu", (f"{tmp_path}/m.csv",)))
    (truthful,) = read_items(BenchmarkSettings("t", "truthfulqa", (f"{tmp_path}/t.csv",)))
    assert (mmlu.questions, mmlu.answers, truthful.answers) == (("Which, of these?",), ("y",), ("So.",))


PROBE = """
import json, sys
from pathlib import Path
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.engine.memory import peak_bytes
from fox1.pipeline.signals.scan import EditSettings, ModelFiles, ScanSettings, scan_file
from fox1.pipeline.sources.listing import current_version
path = sys.argv[1]
file = SourceFile("pile", "huge.jsonl", path, 0, "", "pile", False, 1)
size, version = current_version(file)
file = SourceFile("pile", "huge.jsonl", path, size, version, "pile", False, 1)
edits = EditSettings((("email", "x"),), (("web", ("javascript",)),))
result = scan_file(file, ScanSettings(edits=edits), ModelFiles.installed(), RunPaths(Path(sys.argv[2])))
print(json.dumps([result.documents, peak_bytes()]))
"""
HUGE = {
    "prose": "The quick brown fox jumps over the lazy dog, said no. 12 of the list.\n",
    "one_word": "a",
    "letters": "a b c d ",
    "emails": "joe@example.com ",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.long if kind in ("prose", "letters", "emails") else ()) for kind in HUGE],
)
def test_a_document_of_100_megabytes_stays_within_a_gigabyte_and_a_half(kind: str, tmp_path: Path) -> None:
    unit = HUGE[kind]
    text = unit * (100_000_000 // len(unit.encode()))
    path = tmp_path / "huge.jsonl"
    with open(path, "w") as file:
        for row in ("small", text, "small again"):
            file.write(json.dumps({"text": row, "meta": {"pile_set_name": "Pile-CC"}}, ensure_ascii=False) + "\n")
    del text
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(path), str(tmp_path / "run")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    documents, peak = json.loads(done.stdout)
    assert documents == 3
    print(f"{kind}: peak {peak / (1 << 30):.2f} GiB")
    assert peak < 1.5 * (1 << 30), f"{peak / (1 << 30):.2f} GiB"
