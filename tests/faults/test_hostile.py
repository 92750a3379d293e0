"""Hostile input: text that would steer a terminal, a page or the tokens; bombs; names that lead elsewhere; damaged bytes.

docs/security.md says what bad input does; the rest of it is tested beside the parts: quarantine and damage in
test_sources.py, files that change and limits in test_curate.py, a full disk in test_engine.py, lost nodes in test_cluster.py,
short budgets in test_mix.py, damaged checkpoints in test_elastic.py, damaged files of a run in test_checksums.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.commands.app import app
from fox1.commands.page.report import write_report
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.dedupe.stage import MAX_SUBSETS, dedupe
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.filter.judge import FilteredGroup, Verdict
from fox1.pipeline.inspect.lookup import find
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.minhash import MinHashSettings
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.recipes.load import RecipeError, load_recipe
from fox1.tokenize.encode import Encoder
from fox1.tokenize.shards import token_batches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.commands.page.test_report import Page
from tests.conftest import ROOT, SMALL, MakeOnce, curate_sample
from tests.fuzz import TARGETS, run_case, runs, stored
from tests.fuzz.cases import CONTROL, Case, Fault
from tests.fuzz.recipes import VARIABLES

# -- text ------------------------------------------------------------------------------------------------------------

LITERALS = (
    "<eos> <bos> <pad> <unk> <s> </s> <start_of_turn>user <end_of_turn> <0x0A>",
    "\x1b[2J\x1b]0;owned\x07 \x1b[31m \x9b31m \x90q\x9c \x7f \x08\x08\x08 \x1c \x1d \x1e \x1f",
    "</pre></script><script>window.owned = 1</script><img src=x onerror=alert(1)><!-- ]]>",
    "{{ 7 * 7 }} {% raw %} {% include '/etc/passwd' %} {# #} ${FOX1_DATA} $(id) `id`",
    "\u202e\u2066 \u2028 \u2029 \ufeff \ufffe \U000e0001 \U0010ffff \u200b",
)
SUBSETS = (
    "../../owned",
    "..",
    "/etc",
    "a/b",
    "%2e%2e%2f",
    "</script><script>x()</script>",
    "{{ 7 * 7 }}",
    "[red]",
    "nul\u202e",
)
"""Names that rows give their subset, and that become folders of a run."""
BARRED = ("\x1b[2J", "a\nb", "\x9b31m", "x" * 300, "\u65e5" * 40)
"""Names that cannot be one: control characters, or too long for a folder."""
WEB = 40
"""Hostile documents of a subset that holds nothing else."""
POOL = "phases.phase1.weights=[{corpus: dolma, subset: cc_en_tail, weight: 1, max_epochs: 63}]"
"""They are what a phase is made of."""


def document(k: int) -> str:
    """Prose that no filter drops, with every kind of literal in it."""
    rng = random.Random(k)
    words = "the fox and a hound that have been to the river with all of their friends while it was raining".split()
    lines = [" ".join(rng.choices(words, k=12)).capitalize() for _ in range(24)]
    for at, literal in zip(rng.sample(range(24), len(LITERALS)), LITERALS, strict=True):
        lines[at] += f" {literal}"
    lines = [f"{line}." for line in lines]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def hostile(corpora: Path, make_once: MakeOnce) -> Path:
    """A finished run with hostile documents in it, below a folder that holds nothing else. Tests only read it."""
    rows = [
        {"id": f"\x1b[2J{k}", "text": document(k), "source": source, "metadata": {"url": f"http://x/{LITERALS[k % 5]}"}}
        for k, source in enumerate([*["cc_en_tail"] * WEB, *SUBSETS, *BARRED])
    ]

    def make(folder: Path) -> None:
        data = folder / "data"
        shutil.copytree(corpora, data)
        with gzip.open(data / "dolma" / "hostile [b]{{x}}.json.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        curate_sample(folder / "run", data, *SMALL, POOL, f"max_bad_rows={len(BARRED)}")

    return make_once("hostile", make) / "run"


def hostile_rows(run: Path) -> list[dict[str, Any]]:
    path = next((run / "signals" / "dolma").glob("hostile*"))
    return pq.read_table(path, columns=["doc_id", "row", "subset"]).to_pylist()


def shown(*arguments: object) -> str:
    """What a command prints; nothing in it can steer a terminal."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code in (0, 1) and (done.exception is None or isinstance(done.exception, SystemExit)), (
        done.exception
    )
    left = CONTROL.search(done.output.replace("\n", "").replace("\t", ""))
    assert left is None, f"{arguments[0]}: {done.output[max(0, left.start() - 60) : left.end() + 20]!r}"
    return done.output


def test_no_document_name_or_id_steers_a_terminal(hostile: Path) -> None:
    opened = FinishedRun(RunPaths(hostile))
    traced = 0
    for row in hostile_rows(hostile)[::3]:
        said = shown("why", hostile, row["doc_id"])
        assert "hostile [b]{{x}}" in said
        for placed in find(opened, "id", f"\x1b[2J{row['row']}")[0].blocks[:1]:
            traced += 1
            where = ("trace", hostile, placed.phase, placed.block, "--length", placed.block_length)
            assert "hostile [b]" in shown(*where, "--full") and shown(*where)
    assert traced
    assert "hostile [b]" in shown("find", hostile, "--id", "\x1b[2J3")
    said = shown("filter", hostile, "--what-if", "filters.all.min_words=100000", "--examples", 500)
    assert "</script>" in said and "{{ 7 * 7 }}" in said and "dolma/[red]" in said
    assert "dolma/../../owned" in shown("stats", hostile)


def test_no_text_runs_in_the_report_or_closes_a_part_of_it(hostile: Path, tmp_path: Path) -> None:
    paths = RunPaths(hostile)
    stats = json.loads(paths.stats("examples").read_text())
    # Which documents are shown is a matter of their hashes: let it be these.
    for examples in stats["reasons"].values():
        for k, example in enumerate(examples):
            example |= {"text": document(k), "subset": SUBSETS[k % len(SUBSETS)]}
    for part in ("stats", "manifest"):
        shutil.copytree(hostile / part, tmp_path / "run" / part)
    shutil.copy(hostile / "manifest.json", tmp_path / "run")
    (tmp_path / "run" / "stats" / "examples.json").write_text(json.dumps(stats))
    write_report([hostile], tmp_path / "whole.html")
    write_report([tmp_path / "run"], tmp_path / "shown.html")
    for name in ("whole.html", "shown.html"):
        text = (tmp_path / name).read_text()
        page = Page(text)
        assert not page.open and page.tags.count("script") == 1 and "img" not in page.tags
        assert text.count("</script") == 1
    assert any("{{ 7 * 7 }}" in part and "window.owned" in "".join(page.text) for part in page.text)


def test_no_control_or_reserved_id_comes_from_a_document(hostile: Path) -> None:
    opened = FinishedRun(RunPaths(hostile))
    encoder = Encoder(opened.paths.tokenizer, opened.tokenizer.reserved)
    barred = {0, 1, 2, 3, *encoder.reserved_ids.values()}
    wanted, seen = {row["doc_id"]: row["row"] for row in hostile_rows(hostile)}, 0
    for path in sorted((hostile / "tokens").rglob("*.arrow")):
        for batch in token_batches(path):
            for row in batch.select(["doc_id", "input_ids"]).to_pylist():
                assert not barred & set(row["input_ids"])
                if row["doc_id"] in wanted:
                    seen += 1
                    assert encoder.decode(row["input_ids"]).decode() == document(wanted[row["doc_id"]])
    assert seen > WEB // 2


def test_no_name_leads_out_of_a_run(hostile: Path) -> None:
    assert {p.name for p in hostile.parent.iterdir()} == {"data", "run"}
    assert not {p.name for p in hostile.iterdir()} & {"owned", "etc", "a"}
    rows = hostile_rows(hostile)
    assert set(SUBSETS) <= {r["subset"] for r in rows} and not set(BARRED) & {r["subset"] for r in rows}
    named = {unquote(p.name) for p in (hostile / "tokens" / "dolma").iterdir()}
    assert {"../../owned", "..", "/etc", "a/b"} <= named
    assert all(p.suffix == ".arrow" for p in (hostile / "tokens" / "dolma").glob("*/*"))
    (noted,) = (hostile / "quarantine" / "dolma").glob("hostile*")
    assert [json.loads(line)["row"] for line in noted.read_text().splitlines()] == list(
        range(WEB + len(SUBSETS), WEB + len(SUBSETS) + len(BARRED))
    )


@pytest.mark.parametrize(
    "line", ["https://x/a/../../c.jsonl", "/etc/c.jsonl", "https://x/a/./c.jsonl", "https://x/a/\x1b[2J.jsonl"]
)
def test_a_list_of_urls_names_files_below_its_folder(line: str, tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text(f"https://x/a/b.jsonl\n{line}\n")
    with pytest.raises(
        ValueError, match=r"leaves the folder|leads to no file below the folder|contains control characters"
    ) as caught:
        list_sources([SourceSettings("c", "pile", urls=str(tmp_path / "urls.txt"))])
    assert not CONTROL.search(str(caught.value))


def test_a_file_whose_name_steers_a_terminal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"the name '\\x1b\[2J.jsonl' contains control characters; rename the file"):
        list_sources([SourceSettings("c", "pile", str(tmp_path))])


# -- bombs -----------------------------------------------------------------------------------------------------------

READ = """
import json, sys
from pathlib import Path
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.engine.memory import peak_bytes
from fox1.pipeline.signals.scan import EditSettings, ModelFiles, ScanSettings, scan_file
from fox1.pipeline.sources.listing import current_version
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
for path in sys.argv[3:]:
    format, name = Path(path).name.split("-")
    file = SourceFile(format, name, path, *current_version(SourceFile("", "", path, 0, "", "", False, 1)), format, False, 1)
    if sys.argv[1] == "scan":
        edits = EditSettings((("email", "x"),), (("web", ("javascript",)), ("code", ("javascript",))))
        scanned = scan_file(file, ScanSettings(edits=edits), ModelFiles.installed(), RunPaths(Path(sys.argv[2])))
        found = [scanned.documents, scanned.quarantined, ""]
    else:
        quarantine = Quarantine(file)
        rows = sum(batch.num_rows for batch in read_rows(file, quarantine))
        found = [rows, quarantine.rows, quarantine.damage]
    print(json.dumps([*found, peak_bytes()]), flush=True)
"""


def read_apart(how: str, files: list[Path], folder: Path, seconds: float) -> list[tuple[int, int, str, int]]:
    """(rows, quarantined, damage, peak bytes so far) of files that a process of its own reads or scans."""
    command = [sys.executable, "-c", READ, how, str(folder / "run"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def spaces(path: Path, megabytes: int, window: int = 0) -> Path:
    """A compressed file of one line of spaces without an end."""
    chunk = b" " * (1 << 20)
    if path.suffix == ".gz":
        with gzip.open(path, "wb", 1) as file:
            for _ in range(megabytes):
                file.write(chunk)
    else:
        parameters = zstandard.ZstdCompressionParameters.from_level(1, **({"window_log": window} if window else {}))
        compress = zstandard.ZstdCompressor(compression_params=parameters)
        with open(path, "wb") as raw, compress.stream_writer(raw) as out:
            for _ in range(megabytes):
                out.write(chunk)
    return path


def test_bombs_are_quarantined_in_bounded_memory(tmp_path: Path) -> None:
    """Small files that stand for gigabytes, in rising order of what they may take."""
    one = "x" * (8 << 20)
    column = pa.array([one] * 24).dictionary_encode()
    repeated, page = tmp_path / "refinedweb-a.parquet", tmp_path / "refinedweb-b.parquet"
    pq.write_table(pa.table({"content": column, "url": column}), repeated, compression="zstd", store_schema=False)
    pq.write_table(pa.table({"content": [" " * (200 << 20)]}), page, compression="zstd", use_dictionary=False)
    window = spaces(tmp_path / "pile-c.jsonl.zst", 1, 31)
    turns, ids, literal = tmp_path / "chat-d.jsonl", tmp_path / "dolma-e.jsonl", tmp_path / "redpajama-f.jsonl"
    turns.write_bytes(b'{"messages": [' + b"{}," * 6_000_000 + b"{}]}\n")
    ids.write_bytes(b'{"text": "a", "id": [' + b"[]," * 20_000_000 + b'[]], "source": "c4"}\n')
    literal.write_bytes(b'{"text": "a", "meta": "{\'url\': [' + b"[]," * 3_000_000 + b'[]]}"}\n')
    lines = [spaces(tmp_path / "pile-g.jsonl.zst", 2048), spaces(tmp_path / "dolma-h.json.gz", 512)]
    files = [repeated, page, window, turns, ids, literal, *lines]
    assert sum(f.stat().st_size for f in (repeated, page, window, *lines)) < 10 << 20
    found = read_apart("read", files, tmp_path, 300)
    rows = [(rows, quarantined) for rows, quarantined, _, _ in found]
    assert rows == [(24, 0), (0, 0), (0, 0), (0, 1), (1, 0), (1, 0), (0, 1), (0, 1)]
    damage = [d for _, _, d, _ in found]
    assert "expands to" in damage[1] and "too much memory" in damage[2] and not any(damage[3:6])
    assert all("none of its lines is a JSON object" in d for d in damage[6:])
    peaks = [peak / (1 << 20) for *_, peak in found]
    assert peaks[2] < 400 and peaks[-1] < 1024, peaks


def test_tables_that_stand_for_gigabytes_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """Types that are not read as dictionaries unless one asks for it, turns of a row, and columns that nobody wants."""
    one = pa.array(["y" * (8 << 20)])
    short, column = pa.array(["short"] * 128), pa.DictionaryArray.from_arrays(pa.array([0] * 128, pa.int32()), one)

    def typed(name: str, columns: dict[str, pa.Array], **types: pa.DataType) -> Path:
        """A file whose stored schema says another type than it was written with: nothing is written out here."""
        table = pa.table(columns)
        schema = pa.schema([(n, types.get(n, pa.string())) for n in columns])
        options = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 64 << 20}
        with pq.ParquetWriter(tmp_path / name, table.schema, **options) as writer:
            writer.write_table(table)
            if types:
                writer.add_key_value_metadata({b"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes())})
        return tmp_path / name

    said = pa.DictionaryArray.from_arrays(pa.array([0] * 128, pa.int32()), one)
    role = pa.DictionaryArray.from_arrays(pa.array([0] * 128, pa.int32()), pa.array(["assistant"]))
    turns = pa.ListArray.from_arrays(
        pa.array([0, 128], pa.int32()), pa.StructArray.from_arrays([role, said], ["role", "content"])
    )
    zstd, zeros = pa.ipc.IpcWriteOptions(compression="zstd"), pa.array([b"\0" * (160 << 20)], pa.large_binary())
    unused = {"text": ["x"], **{f"junk{i}": zeros for i in range(3)}}
    for name, arrow in (("pile-d.arrow", unused), ("pile-e.arrow", {"text": zeros})):
        table = pa.table(arrow)
        with pa.ipc.new_file(tmp_path / name, table.schema, options=zstd) as writer:
            writer.write_table(table)
    with gzip.open(tmp_path / "dolma-f.json.gz", "wt", 1) as file:
        file.writelines(json.dumps({"text": "x", "source": f"{i}" + "s" * (1 << 20)}) + "\n" for i in range(50))
    files = [
        typed("huggingface-a.parquet", {"text": short, "url": column}, url=pa.large_string()),
        typed("refinedweb-b.parquet", {"content": short, "url": column}, url=pa.string_view()),
        typed("chat-c.parquet", {"messages": turns}),
        *(tmp_path / name for name in ("pile-d.arrow", "pile-e.arrow", "dolma-f.json.gz")),
    ]
    found = read_apart("read", files, tmp_path, 200)
    assert [(rows, quarantined) for rows, quarantined, _, _ in found] == [
        (128, 0), (128, 0), (0, 1), (1, 0), (0, 0), (0, 50)
    ]  # fmt: skip
    assert [d.split(":")[-1].strip()[:16] for _, _, d, _ in found] == ["", "", "", "", "a batch expands ", ""]
    assert found[-1][3] < 500 << 20, [peak / (1 << 20) for *_, peak in found]


def test_more_subsets_than_a_run_can_tell_apart_are_refused() -> None:
    """Every two of them have a cell in the overlap: twelve thousand names in 89 KB would take gigabytes."""
    verdicts = tuple(Verdict("web", f"s{i}", "", 1) for i in range(MAX_SUBSETS + 1))
    filtered = FilteredGroup(Artifact("", 0, 0, ""), verdicts, ())
    with pytest.raises(ValueError, match=r"2,049 subsets, 2,049 of them in web, are more than a run can tell apart"):
        dedupe(
            Engine(RunPaths(Path("/run")), InProcess()), [], {}, {"web": filtered}, DedupeSettings(), MinHashSettings()
        )


def test_strange_documents_are_scanned_in_bounded_time_and_memory(tmp_path: Path) -> None:
    """One character, ten million equal lines, all planes of Unicode, fifty thousand tiny documents."""
    planes = "".join(chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000)
    texts = {
        "a": ["a" * (16 << 20)],
        "b": ["\U0001f98a" * (1 << 20)],
        "c": ["a\n" * 10_000_000],
        "d": [planes, planes[::-1]],
        "e": [f"tiny {k}" for k in range(50_000)],
    }
    files = []
    for name, documents in texts.items():
        files.append(tmp_path / f"pile-{name}.jsonl")
        rows = ({"text": text, "meta": {"pile_set_name": "Github"}} for text in documents)
        files[-1].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    found = read_apart("scan", files, tmp_path, 300)
    assert [(rows, quarantined) for rows, quarantined, _, _ in found] == [(len(t), 0) for t in texts.values()]
    assert found[-1][3] < 1 << 30, [peak / (1 << 20) for *_, peak in found]


@pytest.mark.long
def test_a_gigabyte_of_one_character_and_ten_million_equal_lines_of_a_file(tmp_path: Path) -> None:
    one, many = tmp_path / "pile-a.jsonl", tmp_path / "pile-b.jsonl"
    one.write_text('{"text": "' + "a" * (1 << 30) + '"}\n{"text": "after"}\n')
    many.write_text('{"text": "the same line of the same words"}\n' * 10_000_000)
    found = read_apart("scan", [one, many], tmp_path, 900)
    assert [(rows, quarantined) for rows, quarantined, _, _ in found] == [(1, 1), (10_000_000, 0)]
    assert found[-1][3] < 1 << 30


# -- recipes ---------------------------------------------------------------------------------------------------------

NINE = [
    f"{after}: &{after} [{','.join(['*' + before] * 9)}]" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
]
LAUGHS = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *NINE])
RECIPES = {
    "aliases that stand for a billion values": (LAUGHS, "too large"),
    "an alias of itself": ("a: &a [*a]\n", "too large"),
    "deep nesting": ("[" * 500, "nested too deeply"),
    "an object of Python's": ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    "bytes that are no text": (b"name: \xff\n", "not YAML"),
    "a date": ("extends: sample\nname: 2024-01-01\n", "is a date; quote it"),
    "no date": ("extends: sample\nname: 2024-99-99\n", "a value that cannot be read"),
    "a key that steers a terminal": ('extends: sample\n"\\e[2J\\nx": 1\n', "\ufffd[2J\ufffdx: unknown key"),
    "a parent that no file can be": (f"extends: {'x' * 5000}\n", "no recipe xxx"),
    "infinity": ("extends: sample\nscale: .inf\n", "scale|number"),
    "a preset that is none": ("extends: sample\ndedupe: {preset: [fineweb]}\n", "dedupe.preset"),
}  # fmt: skip


@pytest.mark.parametrize("what", RECIPES)
def test_a_hostile_recipe_is_one_line(what: str, tmp_path: Path) -> None:
    text, says = RECIPES[what]
    (tmp_path / "r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        load_recipe(str(tmp_path / "r.yaml"), [], VARIABLES)
    assert any(part in str(caught.value) for part in says.split("|"))
    assert str(caught.value).isprintable() and isinstance(caught.value, RecipeError | ValueError)


# -- damage ----------------------------------------------------------------------------------------------------------

EXAMPLES = {"recipe": 12, "overrides": 12, "checkpoint": 15, "phase-set": 40, "scan": 15, "encode": 15,
            "tokenizer": 15, "time": 2, "bomb": 4, "run": 4, "change": 1}  # fmt: skip
"""Of the targets that take longer than the others; `python -m tests.fuzz` runs hundreds of thousands."""


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_bytes_are_read_rightly_or_refused_in_one_line(
    name: str, tmp_path: Path, run: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "finished", lambda: runs.Finished(run, corpora))

    @settings(max_examples=EXAMPLES.get(name, 50), deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, (1 << 32) - 1))
    def check(seed: int) -> None:
        run_case(name, TARGETS[name].make(random.Random(seed)), tmp_path)

    check()


@pytest.mark.long
def test_a_minute_of_mutated_inputs(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    command = [sys.executable, "-m", "tests.fuzz", f"--seed={seed}", "--seconds=60", f"--keep={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, f"seed {seed}: {done.stdout[-3000:]}"


def test_the_fuzz_targets_tell_right_from_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files are read, and an answer that is wrong is found."""
    from fox1.pipeline.sources import rows
    from fox1.trainer.checkpoints import checkpoint
    from fox1.trainer.data import block_reader

    files = stored.phase_set()[0]
    name = next(n for n in files if n.startswith("64/") and n.endswith(".arrow"))
    whole = Case(name, files[name])
    saved = Case("manifest.json", stored.checkpoint_files()["manifest.json"])
    lines = Case("c4/x.jsonl", b'{"text": "a"}\n{"text": 1}\n')
    assert run_case("phase-set", whole, tmp_path) == run_case("checkpoint", saved, tmp_path) == "read"
    assert run_case("pile.jsonl", lines, tmp_path) == "quarantined"
    unit = stored.phase_set()[1]
    token = next(at for at in (whole.data.find(u[:64]) for u in unit) if at >= 0)
    damaged = Case(name, whole.data[: token + 3] + b"\x7f" + whole.data[token + 4 :])
    assert run_case("phase-set", damaged, tmp_path) == "refused"
    other = Case("manifest.json", saved.data.replace(b'"units": 40', b'"units": 41'))
    assert run_case("checkpoint", other, tmp_path) == "refused"
    monkeypatch.setattr(block_reader.SplitReader, "_checked", lambda self, tokens, numbers: tokens)
    monkeypatch.setattr(
        checkpoint, "_checksum", lambda value: value.get("checksum", json.loads(other.data)["checksum"])
    )
    monkeypatch.setattr(rows.Quarantine, "row", lambda self, *a: None)
    for target, case in (("phase-set", damaged), ("checkpoint", other), ("pile.jsonl", lines)):
        with pytest.raises(Fault):
            run_case(target, case, tmp_path)
