"""`fox1 tune` on a run: what it writes, shows and applies, and that its bytes depend on nothing but the run and the settings."""

from __future__ import annotations

import html
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from fox1.api import open_run
from fox1.commands.page.answers import Answers
from fox1.commands.page.asked import Asked
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.pool import pool_session
from fox1.pipeline.mix.budget import MixSettings, Phase, Weight
from fox1.pipeline.prepare.questions import Question
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.documents import RunDocuments
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.tuned import tuned_phases
from fox1.storage.inside import is_partial
from fox1.tokenize.shards import block_batches, read_set
from fox1.trainer.settings import ModelSettings
from fox1.tune.items import measure_items
from fox1.tune.measured import SCHEMA, read_sequences, write_sequences
from fox1.tune.placement import FLAT, FOUND, RECIPE, placed
from fox1.tune.pools import TunePaths
from fox1.tune.settings import ProxySettings
from fox1.tune.stored import Advised, PhasesTooSmall, StoredTuning, TunedPool
from fox1.tune.tune import search

from tests.conftest import MakeOnce, run_command
from tests.faults.promises import sha256
from tests.tune.planted import TOTAL, Chain, Planted, PlantedPool, plant, run_search, small_settings

SMALL = (
    "tune.proxies=24",
    "tune.refine=4",
    "tune.proxy.tokens=30K",
    "tune.anchors={recipe: 2, natural: 2, uniform: 1, drop_one: 0}",
    "tune.validation={times: 2, seeds: 3, documents: 8, tokens: 4K}",
)
SETS = [word for change in SMALL for word in ("--set", change)]


def bytes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a tuning but for records, times and marks."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    named = ((p.relative_to(folder), p) for p in files)
    return {str(n): sha256(p) for n, p in named if n.parts[0] not in ("records", "timings", ".fox1.json", ".lease")}


@pytest.fixture(scope="module")
def tuned(make_once: MakeOnce, run: Path) -> Path:
    """A small tuning of the shared run. Tests only read it."""

    def make(folder: Path) -> None:
        done = run_command("tune", run, "--out", folder / "tuned", "--in-process", *SETS)
        assert not done.returncode, done.stderr
        last = done.stdout.splitlines()[-1]
        assert last.startswith(("adopt: ", "keep the recipe: ", "take natural weights: "))
        assert ("tune.proxy.kind=model" in done.stderr) == (not last.startswith("keep"))

    return make_once("tuned", make) / "tuned"


def test_a_tuning_describes_pools_design_fit_choice_and_verdict(tuned: Path, run: Path) -> None:
    described = {
        name: json.loads((tuned / f"{name}.json").read_text())
        for name in ("tune", "design", "fit", "choice", "verdict")
    }
    pools = described["tune"]["pools"]
    assert len(described["design"]) == 24 == len(list((tuned / "proxies").iterdir()))
    for name in ("natural", "recipe"):
        assert sum(p[name] for p in pools) == pytest.approx(1)
    mixture = json.loads((run / "stats" / "mixture.json").read_text())
    assert sum(p["trained"] for p in pools) == sum(p["tokens"] for p in mixture["phases"])
    assert sum(described["choice"]["weights"]) == pytest.approx(1)
    assert described["fit"]["targets"] == described["verdict"]["targets"] == sorted(described["tune"]["domains"])
    assert set(described["verdict"]["arms"]) == {"chosen", "recipe", "natural", "mixmin"}


def documents(folder: Path) -> set[int]:
    """Of a packed set."""
    info = read_set(folder)
    return {
        document
        for split in info.splits
        for name in split.files
        for batch in block_batches(folder / str(split.block_length) / name, split.block_length, info.masked)
        for ids in batch.column("doc_ids").to_pylist()
        for document in ids
    }


def test_no_training_holds_a_document_that_is_measured_and_no_fit_one_of_the_validation(tuned: Path) -> None:
    def together(*folders: Path) -> set[int]:
        return {d for folder in folders for each in folder.iterdir() if each.is_dir() for d in documents(each)}

    fit, check = (together(tuned / "measured" / part) for part in ("fit", "check"))
    trained = together(tuned / "pools")
    assert fit and check and trained
    assert not fit & check and not (fit | check) & trained


def test_a_tuning_has_the_tiers_of_its_recipe(tuned: Path) -> None:
    pools = {p["name"]: p for p in json.loads((tuned / "tune.json").read_text())["pools"]}
    best, rest = pools["web, best 30 %"], pools["web, last 70 %"]
    assert best["tokens"] / (best["tokens"] + rest["tokens"]) == pytest.approx(0.3, abs=0.1)
    # Phase 3 of the sample has the best of the web alone.
    assert best["by_phase"][2] > 0 == rest["by_phase"][2] < rest["by_phase"][0]
    of_best, of_rest = (documents(tuned / "pools" / quote(p["name"], safe="")) for p in (best, rest))
    assert of_best and of_rest and not of_best & of_rest


def test_a_page_shows_the_same(tuned: Path, run: Path, tmp_path: Path) -> None:
    done = run_command("tune", "show", tuned, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    verdict, choice = (json.loads((tuned / f"{name}.json").read_text()) for name in ("verdict", "choice"))
    assert not done.returncode and html.unescape(page).count(verdict["line"]) == 1
    assert page.count("<script>") == 1 and "http" not in page.split("</style>")[1].split("<script>")[0]
    for pool, weight in zip(choice["pools"], choice["weights"], strict=True):
        shown = page[page.index(f'role="rowheader">{html.escape(pool)}</th>') :].split("</tr>")[0]
        assert f"<strong>{100 * weight:.2f}</strong></td>" in shown
    assert page.count('class="plot"') == 4 + len(choice["pools"]) and "Weights by phase" in page
    # Beside the run it has a tab.
    done = run_command("report", run, "--tuning", tuned, "--out", tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert not done.returncode and html.unescape(report).count(verdict["line"]) == 1 and 'href="#tuning"' in report
    answers = Answers([open_run(run)], tuning=tuned)
    try:
        assert verdict["line"] in json.dumps(answers.run(Asked({}))["tuning"], ensure_ascii=False)
    finally:
        answers.close()
    # A tuning that has only begun has a page as well, and one that is damaged is refused by name.
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "tune.json").write_bytes((tuned / "tune.json").read_bytes())
    assert not run_command("tune", "show", begun, "--html", tmp_path / "page.html").returncode
    assert "no verdict yet" in (tmp_path / "page.html").read_text()
    (begun / "tune.json").write_text(json.dumps({"pools": [{"name": "web"}]}))
    for command in (["tune", "show", begun, "--html", tmp_path / "page.html"], ["report", run, "--tuning", begun]):
        done = run_command(*command)
        assert done.returncode == 1 and str(begun) in done.stderr and "run `fox1 tune` again" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_what_is_shown_is_what_is_stored(tuned: Path) -> None:
    shown = run_command("tune", "show", tuned)
    verdict = json.loads((tuned / "verdict.json").read_text())
    assert shown.stdout.startswith(verdict["line"][:60]) and "Fit, out of fold" in shown.stdout
    as_json = json.loads(run_command("tune", "show", tuned, "--json").stdout)
    assert as_json["verdict"] == verdict and set(as_json) == {"tune", "fit", "choice", "verdict", "placement"}


def test_weights_are_applied_only_where_they_are_shown_to_be_better(tuned: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tuned"
    copy.mkdir()
    for name in ("tune", "fit", "choice", "verdict"):
        (copy / f"{name}.json").write_bytes((tuned / f"{name}.json").read_bytes())
    (copy / "recipe.yaml").write_bytes((tuned / "recipe.yaml").read_bytes())
    verdict = json.loads((copy / "verdict.json").read_text())
    out = tmp_path / "ours.yaml"

    def applied(word: str, *options: str) -> tuple[int, str]:
        (copy / "verdict.json").write_text(json.dumps(verdict | {"verdict": word, "line": f"{word}: so it is"}))
        done = run_command("tune", "apply", copy, "--out", out, *options)
        return done.returncode, done.stderr

    status, said = applied("keep the recipe")
    assert status and "keep the recipe: so it is. Nothing is written" in said and not out.exists()
    assert applied("keep the recipe", "--force")[0] == 0
    forced = out.read_text()
    assert applied("adopt")[0] == 0
    recipe = yaml.safe_load(out.read_text())
    assert recipe["phases"] == yaml.safe_load(forced)["phases"] and "# Weights by `fox1 tune`" in out.read_text()
    # The pools' sums over the phases are the weights that were found.
    choice = json.loads((copy / "choice.json").read_text())
    selected = [(p["name"], p["selects"]) for p in json.loads((copy / "tune.json").read_text())["pools"]]
    named = {(of["domain"], of["top"], of["below"]): name for name, of in selected}
    tokens = {name: p["tokens"] for name, p in yaml.safe_load((copy / "recipe.yaml").read_text())["phases"].items()}
    tokens = {name: int(str(t).removesuffix("K")) for name, t in tokens.items()}
    sums: dict[str, float] = {}
    for name, phase in recipe["phases"].items():
        of_phase = [
            (pool, w["weight"])
            for w in phase["weights"]
            if (pool := named.get((w["domain"], w.get("top", 1.0), w.get("below", 0.0))))
        ]
        for pool, weight in of_phase:
            share = weight / sum(w for _, w in of_phase) * tokens[name] / sum(tokens.values())
            sums[pool] = sums.get(pool, 0) + share
    for pool, share in zip(choice["pools"], choice["weights"], strict=True):
        assert sums[pool] == pytest.approx(share, abs=2e-3)
    assert run_command("recipe", "show", out).returncode == 0
    status, said = applied("keep the recipe", "--out", str(tmp_path / "other.yaml"))
    assert status


def test_a_plan_runs_nothing(run: Path, tmp_path: Path) -> None:
    done = run_command("tune", run, "--out", tmp_path / "t", "--plan", "--set", "tune.proxies=100")
    assert (
        done.stdout.startswith("108 ngram trainings of 50,000 tokens, then 20 of 250,000")
        and not (tmp_path / "t").exists()
    )
    assert not done.stderr
    promise = ("--set", "tune.objective.never_worse={code: 0.01}")
    warned = run_command("tune", run, "--out", tmp_path / "t", "--plan", *promise)
    assert "n-gram models judge `tune.objective.never_worse`" in warned.stderr
    networks = run_command("tune", run, "--out", tmp_path / "t", "--plan", *promise, "--set", "tune.proxy.kind=model")
    assert (
        not networks.stderr and "40 model trainings of 50,000 tokens and 32 across phases, then 35" in networks.stdout
    )
    refused = run_command("tune", run, "--out", tmp_path / "t", "--plan", "--set", "scale=2")
    assert refused.returncode and "only keys of `tune` can change" in refused.stderr


def test_what_is_no_tuning_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    for words in (("show", run), ("apply", run, "--out", tmp_path / "x.yaml")):
        done = run_command("tune", *words)
        assert done.returncode == 1 and "holds no tuning" in done.stderr and done.stderr.count("\n") == 1
    onto_a_run = run_command("tune", run, "--out", run, "--in-process")
    assert onto_a_run.returncode == 1 and "holds a run of fox1, not a tuning" in onto_a_run.stderr
    unknown = run_command("tune", run, "--out", tmp_path / "t", "--in-process", "--set", "tune.objective.items=[none]")
    assert unknown.returncode == 1 and "names none, which is no benchmark" in unknown.stderr


def test_only_the_option_of_an_item_is_scored(run: Path, tmp_path: Path) -> None:
    paths = RunPaths(run)
    documents = RunDocuments(paths)
    facts = documents.manifest["artifacts"]["prepare/tokenizer.model"]
    model = Artifact(str(paths.tokenizer), facts["bytes"], facts["rows"], facts["hash"])
    items = (
        Question("b", "What does the fox say?", "Nothing at all"),
        Question("b", ("A word " * 300).strip(), "an option"),
    )
    file = measure_items(items, model, documents.tokenizer.reserved, 2, 64, tmp_path / "items.arrow")
    s = read_sequences([file.file.file])
    assert s.targets == ("b",) and len(s.ends) == 2 and s.ends.tolist()[1] - s.ends.tolist()[0] == 64
    # The option's bytes, with or without the space before it.
    assert [n - len(i.answer) in (0, 1) for n, i in zip(s.size.tolist(), items, strict=True)] == [True, True]
    bits = s.bits(lambda stream: np.ones(len(stream.tokens)))
    assert bits.tolist() == [int(e - b - k) for b, e, k in zip([0, *s.ends[:-1]], s.ends, s.skip, strict=True)]


def test_a_damaged_file_of_what_is_measured_is_named(tmp_path: Path) -> None:
    file = write_sequences([("web", 1, 1, 9, np.arange(5, dtype=np.int32))], tmp_path / "m.arrow").file
    assert read_sequences([file.file]).size.tolist() == [9] and len(SCHEMA) == 5
    file.file.write_bytes(file.file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"m.arrow is damaged .*run `fox1 tune` again"):
        read_sequences([file.file])


# -- the same bytes -----------------------------------------------------------------------------------------------------


def three_pools(root: Path) -> Planted:
    pools = [
        PlantedPool("a", Chain.over(0, 80, 1), 6000, 0.5),
        PlantedPool("b", Chain.over(100, 400, 2), 6000, 0.3),
        PlantedPool("c", Chain.over(600, 900, 3), 6000, 0.2),
    ]
    return plant(root, pools, QUICK, TOTAL, 1)


QUICK = small_settings(20_000, proxies=24, seeds=3)


def test_killed_at_any_time_a_tuning_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    run_search(whole, three_pools(whole), QUICK)
    took = time.monotonic() - began
    planted, seed = three_pools(killed), random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    landed = 0
    for _ in range(3):
        pid = os.fork()
        if not pid:
            with suppress(BaseException):
                run_search(killed, planted, QUICK)
                os._exit(0)
            os._exit(1)
        time.sleep(rng.uniform(0.05, 0.6) * took)
        os.kill(pid, signal.SIGKILL)
        landed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert landed
    run_search(killed, planted, QUICK)
    # What a kill leaves half written is removed when `tune` begins, which packs the pools too.
    found = {n: h for n, h in bytes_of(killed).items() if not is_partial(Path(n).name)}
    assert found == bytes_of(whole)


@pytest.mark.long
def test_workers_and_kills_of_the_command_change_no_byte(run: Path, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    command = [sys.executable, "-m", "fox1", "tune", str(run), "--out", str(out), "--workers", "2", *SETS]
    for wanted in ("pools", "proxies/00004.json", "fit.json", "validation/recipe-0.json"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / wanted).exists():
            time.sleep(0.01)
        process.kill()
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert bytes_of(out) == bytes_of(tuned)


@pytest.mark.long
def test_two_workers_make_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run_search(one, three_pools(one), QUICK)
    planted = three_pools(two)
    with pool_session(2) as pool:
        engine = Engine(TunePaths(two), pool)
        search(engine, planted.packed, planted.to_fit, planted.to_check, QUICK)
    assert bytes_of(one) == bytes_of(two)


def test_networks_are_proxies_as_well(tmp_path: Path) -> None:
    from fox1.trainer.settings import OptimizerSettings
    from fox1.tune.proxy import parts_of, proxy_task

    planted = three_pools(tmp_path)
    shape = ModelSettings(1, 32, 32, 1, 1, 32, 128)
    settings = ProxySettings("model", 20_000, batch_tokens=512, optimizer=OptimizerSettings(1e-2), model=shape)
    losses = []
    for i, weights in enumerate(((0.9, 0.05, 0.05), (0.05, 0.05, 0.9), (0.9, 0.05, 0.05))):
        parts = parts_of(weights, planted.packed, settings.tokens, QUICK)
        task = proxy_task(str(i), parts, 1, settings, planted.to_fit.files, tmp_path / f"{i}.json")
        losses.append(task.run(*task.args).losses)
    # What is read most is known best; the same again is the same.
    assert losses[0][0] < losses[1][0] and losses[0][2] > losses[1][2] and losses[0] == losses[2]


# -- back into a recipe -------------------------------------------------------------------------------------------------


def test_tokens_are_placed_so_that_pools_and_phases_have_their_sums() -> None:
    before = np.array([[60.0, 40, 0], [10, 50, 40]])
    found = placed(np.array([100.0, 100]), np.array([50.0, 110, 40]), before)
    assert found.sum(axis=0) == pytest.approx([50, 110, 40], abs=0.1) and found.sum(axis=1) == pytest.approx([100, 100])
    assert found[0, 2] == 0 and found[0, 0] > found[1, 0]
    with pytest.raises(ValueError, match="cannot hold as much"):
        placed(np.array([100.0, 100]), np.array([20.0, 20, 160]), before)


def advised(table: list[list[float]], *pools: TunedPool) -> Advised:
    return Advised(pools, np.array(table))


def test_new_weights_keep_what_a_weight_says_and_let_scarce_pools_repeat() -> None:
    phases = (
        Phase("p1", 900, (Weight(80, domain="web"), Weight(20, domain="code", if_present=True)), ()),
        Phase("p2", 100, (Weight(50, domain="web", top=0.3), Weight(50, domain="code"), Weight(5, domain="law")), ()),
    )
    web, code = TunedPool("web", Weight(1, domain="web"), 5000), TunedPool("code", Weight(1, domain="code"), 300)
    found = tuned_phases(MixSettings(phases), advised([[0.48, 0.42], [0.02, 0.08]], web, code))
    first, second = (found[name]["weights"] for name in ("p1", "p2"))
    assert first[0] == {"domain": "web", "weight": pytest.approx(53.3333)}
    assert first[1] | {"weight": 0} == {
        "domain": "code",
        "weight": 0,
        "if_present": True,
        "max_epochs": 1.6,
        "reuse": ["p2"],
    }
    assert second[0] == {"domain": "web", "weight": 20, "top": 0.3} and second[2] == {"domain": "law", "weight": 5}


def test_tiers_are_weights_of_their_own_and_lie_where_they_were_placed() -> None:
    phases = (
        Phase("p1", 900, (Weight(80, domain="web"), Weight(20, domain="code")), ()),
        Phase("p2", 100, (Weight(50, domain="web", top=0.3, max_epochs=2), Weight(50, domain="code")), ()),
    )
    best = TunedPool("web, best 30 %", Weight(1, domain="web", top=0.3), 9000)
    rest = TunedPool("web, last 70 %", Weight(1, domain="web", below=0.3), 9000)
    law = TunedPool("law", Weight(1, domain="law"), 9000)
    found = tuned_phases(MixSettings(phases), advised([[0.3, 0.51, 0.09], [0.08, 0, 0.02]], best, rest, law))
    first, second = (found[name]["weights"] for name in ("p1", "p2"))
    # Code was not tuned and stays as it is; law, which no phase of the recipe has, comes last.
    assert [(w["domain"], round(w["weight"], 2)) for w in first] == [
        ("web", 33.33),
        ("web", 56.67),
        ("code", 20),
        ("law", 10),
    ]
    assert (first[0]["top"], first[1]["below"]) == (0.3, 0.3) and "top" not in first[1]
    assert second[0] == {"domain": "web", "weight": 80.0, "top": 0.3, "max_epochs": 2.0}
    assert [w["domain"] for w in second] == ["web", "code", "law"]
    # What is written is what the mix takes.
    Weight(**{k: tuple(v) if isinstance(v, list) else v for k, v in second[0].items()})


def stored(tmp_path: Path, found: list[float], by_phase: tuple[list[int], list[int]], **parts: Any) -> StoredTuning:
    """A tuning of two pools, web and code, of a run with phases of 900 and 100 tokens."""
    pools = [
        {"name": name, "tokens": 9000, "by_phase": tokens, "selects": {"domain": name}}
        for name, tokens in zip(("web", "code"), by_phase, strict=True)
    ]
    choice = {"pools": ["web", "code"], "weights": found, "natural": [0.5, 0.5]}
    verdict = {"verdict": "adopt", "line": "adopt: so it is"} | parts.pop("verdict", {})
    tune = {"pools": pools, "phases": ["p1", "p2"]}
    return StoredTuning(tmp_path, tune, None, choice, verdict, parts.pop("placement", None))


def test_where_no_order_was_searched_pools_lie_where_the_recipe_has_them(tmp_path: Path) -> None:
    advice = stored(tmp_path, [0.7, 0.3], ([850, 50], [50, 50])).validated()
    assert advice.table.sum(axis=0) == pytest.approx([0.7, 0.3], abs=2e-4)
    assert advice.table.sum(axis=1) == pytest.approx([0.9, 0.1])
    # Code is late still, though the phases have more of it.
    assert advice.table[1, 1] / 0.1 > 2 * advice.table[0, 1] / 0.9
    with pytest.raises(PhasesTooSmall) as raised:
        stored(tmp_path, [0.5, 0.5], ([900, 50], [0, 50])).validated()
    assert (raised.value.pool, raised.value.phases) == ("code", ("p2",))


def test_a_placement_is_applied_as_its_verdict_says(tmp_path: Path) -> None:
    late = [[0.7, 0.2], [0.0, 0.1]]

    def with_order(word: str, said: str = "adopt", better: bool = False) -> StoredTuning:
        placement = {"verdict": word, "line": "", "weights": [0.7, 0.3], "tables": {FOUND: late, RECIPE: late}}
        placement["better_than_recipe"] = better
        return stored(tmp_path, [0.7, 0.3], ([850, 50], [50, 50]), verdict={"verdict": said}, placement=placement)

    assert with_order(FOUND).validated().table.tolist() == late
    assert with_order(FLAT).validated().table == pytest.approx(np.outer([0.9, 0.1], [0.7, 0.3]))
    # Of a recipe whose weights are kept, the order is changed only if that is better than the recipe's own.
    with pytest.raises(ValueError, match="Nothing is written"):
        with_order(FOUND, "keep the recipe").validated()
    assert with_order(FOUND, "keep the recipe", better=True).validated().table.tolist() == late
