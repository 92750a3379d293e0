"""Recipes: the package's own, and what a wrong one says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fox1.pipeline.prepare.benchmarks import BenchmarkSettings, benchmark_files
from fox1.pipeline.signals.language import UNDETERMINED, load_model
from fox1.pipeline.sources.globs import matches
from fox1.recipes.check import check_recipe, undrawn_sources
from fox1.recipes.json_schema import resolved
from fox1.recipes.load import PACKAGE, RecipeError, ambiguity, find, load_recipe
from fox1.recipes.presets import PRESETS
from fox1.recipes.schema import Recipe
from fox1.recipes.settings import curate_settings, train_settings
from fox1.recipes.travel import pack

from tests.conftest import run_command

VARIABLES = {"FOX1_DATA": "/data", "FOX1_TOKENIZER": "/data/gemma.model"}


def load(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, overrides, VARIABLES)[0]


def test_the_full_recipe_states_the_published_facts() -> None:
    recipe = load("fox1")
    assert [recipe.phase_tokens(p) for p in recipe.phases] == [1_050_000_000_000, 1_580_000_000_000, 62_000_000_000]
    size = recipe.training.sizes["1.6b"]
    assert list(size.batch_tokens.values()) == [2_097_152, 4_194_304, 4_194_304]
    assert size.schedule.warmup_steps == 2000 and size.schedule.decay_from == "phase3"
    assert (size.model.layers, size.model.hidden, size.model.intermediate) == (32, 2048, 4096)
    assert (size.model.heads, size.model.kv_heads, size.model.head_dim) == (16, 4, 128)
    lengths = [sorted({b.length for b in p.blocks}) for p in recipe.phases.values()]
    assert lengths == [[2048], [4096, 8192], [4096, 8192]]
    assert {e.subset for e in recipe.licence.exclude} >= {"Books3", "book", "RedPajamaBook"}


def test_mini_changes_only_roots_scale_size_and_tokenizer() -> None:
    full, mini = load("fox1").model_dump(), load("mini").model_dump()
    changed = {k for k in full if full[k] != mini[k]}
    assert changed == {"contamination", "name", "scale", "sources", "tokenizer", "training"}
    for corpus, source in full["sources"].items():
        assert {k for k in source if source[k] != mini["sources"][corpus][k]} <= {"root", "urls"}
    assert {k for k in full["training"] if full["training"][k] != mini["training"][k]} == {"size"}


@pytest.mark.parametrize("name", ["fox1", "mini", "sample"])
def test_own_recipes_become_settings(name: str) -> None:
    recipe = load(name)
    assert len(curate_settings(recipe).mix.phases) == len(train_settings(recipe).phases) == 3


def test_steps_before_the_scan_stay_in_order_and_may_be_taken_out(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "extends: mini\nbefore_scan: {z: {target: a.Z}, b: {target: a.B, sources: [refinedweb]}, "
        "c: {target: a.C, sources: [refinedweb, dolma]}}\n"
    )
    (tmp_path / "own.yaml").write_text(
        "extends: base.yaml\nsources: {refinedweb: null}\nbefore_scan: {a: {target: a.A, arguments: {x: 1}}, z: {target: a.Y}}\n"
    )
    settings = curate_settings(load(str(tmp_path / "own.yaml")))
    # One that serves no source any more goes with its sources; it does not come to serve all.
    assert [(s.name, s.target, s.sources) for s in settings.before_scan] == [
        ("z", "a.Y", ()),
        ("c", "a.C", ("dolma",)),
        ("a", "a.A", ()),
    ]
    assert settings.filter.steps == ("z", "c", "a")
    assert [s.name for s in curate_settings(load(str(tmp_path / "base.yaml"), "before_scan.b=null")).before_scan] == [
        "z",
        "c",
    ]
    for change, says in (
        ("plugins.z={target: a.z}", "'z' names a plug-in and a step"),
        ("sources.talks={format: chat, root: /d}", "before_scan.z would be given the conversations of talks"),
    ):
        with pytest.raises(RecipeError, match=says):
            load(str(tmp_path / "base.yaml"), change)


def test_fineweb_is_read_as_a_recipe_of_one_phase_for_the_model_of_fox1() -> None:
    recipe = load("fineweb")
    assert [p.name for p in curate_settings(recipe).mix.phases] == ["phase1"]
    assert recipe.training.chosen.model == load("fox1").training.chosen.model
    assert (recipe.signals.minhash.bands, recipe.signals.minhash.rows, recipe.dedupe.jaccard) == (14, 8, 0.72)


def test_phase_shares_of_the_sample_leave_phase_3_sixteen_batches() -> None:
    sample = load("sample")
    assert sample.phase_tokens("phase3") / sample.training.sizes["sample"].batch_tokens["phase3"] >= 16


def test_a_preset_changes_what_it_names_and_a_recipe_may_go_on_from_it(tmp_path: Path) -> None:
    mini = load("mini")
    zyda = load("mini", "dedupe.preset=zyda", "dedupe.jaccard=0.5")
    assert (zyda.signals.minhash.ngram, zyda.signals.minhash.bands, zyda.signals.minhash.rows) == (13, 32, 4)
    assert zyda.dedupe.priority == ("refinedweb", "pile", "slimpajama", "dolma", "redpajama")
    assert zyda.dedupe.jaccard == 0.5 and zyda.dedupe.fan_out == mini.dedupe.fan_out
    own = tmp_path / "own.yaml"
    own.write_text("extends: mini\nname: own\ndedupe: {preset: refinedweb, scope: all}\n")
    refinedweb = load(str(own))
    assert (refinedweb.signals.minhash.bands, refinedweb.signals.minhash.rows) == (20, 450)
    assert refinedweb.dedupe.scope == "all" and refinedweb.dedupe.priority == mini.dedupe.priority
    for preset in PRESETS.values():
        assert preset.reproduces and preset.differs


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("dedupe.preset=c4", "dedupe.preset: Input should be '', 'slimpajama'"),
        ("dedupe.exempt=[pile/Wikipedia]", "dedupe.exempt names the subset 'Wikipedia'"),
        ("dedupe.near_limits={dolmo: 0.5}", "dedupe.near_limits names the corpus 'dolmo'"),
        ("dedupe={scope: across, url: {rule: newest}}", "drops within a corpus"),
        ("phases.phase1.tokns=1B", r"phases\.phase1\.tokns: unknown key \(did you mean `tokens`\?\)"),
        ("phases.phase1.tokens=1.05Q", r"phases\.phase1\.tokens.*unknown unit 'Q'"),
        ("phases.phase1.tokens=1M", "less than one batch"),
        (
            "phases.phase1.tokens=lots",
            r"^[^:]*: phases.phase1.tokens: 'lots' is not a quantity; write for example 62B, 2Mi or 4096$",
        ),
        ("dedupe.priority=[nonesuch]", "dedupe.priority names the corpus 'nonesuch'"),
        ("training.size=huge", "training.size names the size 'huge'"),
        ("filters.web.min_wrds=3", r"filters\.web: no threshold 'min_wrds' \(did you mean `min_words`\?\)"),
        ("filters.web.min_words=many", "min_words: 'many' is not a number"),
        ("filters.web.languages=[eng, und]", r"filters\.web: languages: no language 'eng' \(did you mean `en`\?\)"),
        ("filters.web.languages=[EN]", "no language 'EN' .did you mean `en`"),
        ("filters.web.languages=[english]", "no language 'english' .did you mean `en`"),
        ("filters.web.languages=[germn]", "no language 'germn' .did you mean `de`"),
        ("filters.web.languages=[zh-cn]", "no language 'zh-cn' .did you mean `zh`"),
        ("filters.web.languages=[pt_BR]", "no language 'pt_BR' .did you mean `pt`"),
        ("filters.web.languages=[en, yue]", "no language 'yue' .the language model counts it as `zh`"),
        ("filters.web.languages=[xyzzyx]", "no language 'xyzzyx'; the language model has ace, af, "),
        ("filters.web.languages=[en, no]", "YAML reads no as false; quote it: 'no'"),
        ("filters.web.languages=no", r"YAML reads no as false; quote it in a list: \['no'\]"),
        ("filters.web.languages=en", r"languages: write a list, such as \[en\]"),
        ("filters.web.languages=[1]", "1 is not a language code"),
        ("filters.web.languages=[]", "an empty list keeps no document"),
        ("filters.webb.min_words=3", "filters has the section 'webb'"),
        ("edits.pii.mail=x", "edits.pii"),
        ("quality.web.good=[pile/Nosuch]", "quality.web names the subset 'Nosuch'"),
        ("contamination.benchmarks.arc.files=[x]", "give `files` or `dataset`"),
        ("plugins.min_words={target: a.b}", "'min_words' cannot name a plug-in"),
        ("before_scan.url={target: a.b}", "'url' cannot name a step"),
        ("before_scan.x={target: a.b, sources: [piles]}", "before_scan.x.sources names the source 'piles'"),
        ("before_scan.x={target: a.b, traget: a.b}", r"before_scan.x.traget: unknown key \(did you mean `target`\?\)"),
        ("phases.phase1.weights.0.domain=webb", "weights.0.domain"),
        (
            "phases.phase1.weights.7={domain: books, corpus: redpajama, weight: 1}",
            "no source has the pool books in redpajama",
        ),
        ("phases.phase1.weights.0.subset=nosuch", "no source has the pool web in nosuch"),
        ("phases.phase2.blocks.1.length=5000", "not a power of two"),
        ("sources.a/b={format: pile, root: /x}", "'a/b' cannot name a source"),
        ("licence.exclude.0.subset=books3", "licence.exclude.0 names the subset 'books3'"),
        ("licence.exclude.0.corpus=pil", "licence.exclude.0 names the corpus 'pil'"),
        ("filters={pile/Githb: {min_words: 1}}", "filters names the subset 'Githb'"),
        ("held_out.other.files=[x]", "held_out names the source 'other'"),
        ("dedupe.priority=pile", "dedupe.priority: write a list, such as"),
        ("dedupe=5", "dedupe: write a mapping, such as"),
        ("phases.phase1.blocks.0={min_tokens: 5}", "blocks.0.length: is required and missing"),
        ("phases.phase1.blocks=[]", "phases.phase1.blocks: must not be empty"),
        ("phases.phase1.tokens=120%", r"phases.phase1.tokens: '120%' is not|1.2 is not a share between"),
        ("phases.phase1.tokens=39%", "phases.phase1.tokens is a share; give `total_tokens`"),
        ("sources.pile.corpus=other", "sources.pile.corpus: unknown key"),
        ("edits.cut_contamination=true", r"edits.cut_contamination: unknown key; known keys: pii, lines"),
        ("dedupe.jacard=0.5", r"dedupe.jacard: unknown key \(did you mean `jaccard`\?\)"),
        ("dedupe.jaccard=80", "dedupe.jaccard: 80 is not a share"),
        ("dedupe.fan_out=0", "dedupe.fan_out: .* greater than or equal to 1"),
        ("training.sizes.tiny.model={layers: 2}", "training.sizes.tiny.model: give hidden, intermediate, .*, too"),
        ("training.sizes.tiny.schedule.decay_share=2", "decay_share: 2 is not a share"),
        ("tokenizer.chat=[]", "tokenizer.chat: unknown key"),
        ("scale=.nan", "scale: .*finite number"),
    ],
)
def test_every_wrong_key_unit_and_reference_has_a_message(override: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        load("fox1", override)
    assert "\n" not in str(caught.value)


def test_a_decay_begins_with_a_phase_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"tiny\.schedule\.decay_from names the phase 'phase9', which does not exist"):
        load("mini", "training.sizes.tiny.schedule={warmup_steps: 1, decay_share: null, decay_from: phase9}")


def test_every_code_that_the_scan_writes_can_be_kept() -> None:
    codes = sorted({*load_model().languages, UNDETERMINED})
    assert {"en", "no", "zh"} < set(codes)
    assert load("fox1", f"filters.web.languages={json.dumps(codes)}").filters["web"]["languages"] == codes


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(RecipeError, match="variable FOX1_DATA is not set"):
        load_recipe("mini", [], {})
    with pytest.raises(RecipeError, match=r"tokenizer\.model: the variable MODEL is not set"):
        load_recipe("fox1", ["tokenizer.model=${MODEL}"], {})
    assert load_recipe("fox1", [], {})[0].tokenizer.model == "hf://google/gemma-2b/tokenizer.model"


def test_overrides_reach_into_lists_and_refuse_nonsense() -> None:
    assert load("fox1", "filters.web.min_words=99").filters["web"]["min_words"] == 99
    assert load("fox1", "phases.phase1.weights.0.weight=7").phases["phase1"].weights[0].weight == 7
    with pytest.raises(ValueError, match="key=value"):
        load("fox1", "nonsense")


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(str(tmp_path / "a.yaml"))


def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe, resolved = load_recipe("mini", [], VARIABLES)
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    assert load_recipe(str(tmp_path / "resolved.yaml"), [], {})[0] == recipe


def test_a_name_is_no_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ambiguity("sample") == ambiguity("sample.yaml") == ""
    for name in ("sample", "ours", "mini.yaml"):
        Path(name).write_text("name: planted\n")
    Path("fox1").mkdir()
    for name in ("sample", "fox1"):
        assert find(name) == PACKAGE / f"{name}.yaml"
        assert (
            ambiguity(name)
            == f"{name} is the recipe of the package; to name what is in the current folder, write ./{name}"
        )
    with pytest.raises(
        ValueError, match=r"no recipe ours \(for the file of the current folder, write \./ours\); give a path"
    ):
        find("ours")
    assert find("./ours") == Path("ours")
    assert find("mini.yaml") == Path("mini.yaml")
    assert (
        ambiguity("mini.yaml")
        == "mini.yaml is the file in the current folder; for the recipe of the package, write mini"
    )
    # What a recipe extends lies beside it or in the package, wherever the command was started.
    beside = tmp_path / "elsewhere"
    beside.mkdir()
    assert find("mini.yaml", beside) == PACKAGE / "mini.yaml"
    checked = run_command("recipe", "check", "sample", FOX1_DATA="/nowhere")
    assert checked.returncode == 1 and "source redpajama: the folder /nowhere/redpajama" in checked.stderr
    assert checked.stderr.startswith("sample is the recipe of the package;")


@pytest.mark.parametrize("name", ["[ab]", "what?", "a*b", "50%41", "a#b"])
def test_the_value_of_a_variable_is_literal_in_a_glob(name: str, tmp_path: Path) -> None:
    for folder in (name, "a", "whats", "aab"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.jsonl").write_text("")
    glob = "contamination.benchmarks.sample.files=['${FOX1_DATA}/*.jsonl']"
    recipe = load_recipe(
        "sample", [glob, "sources.pile.files=['${SUB}/*']"], {"FOX1_DATA": f"{tmp_path}/{name}", "SUB": name}
    )
    settings = curate_settings(recipe[0])
    (benchmark,) = settings.contamination.benchmarks
    assert benchmark_files(benchmark) == [f"{tmp_path}/{name}/{name}.jsonl"]
    (pile,) = (s for s in settings.sources if s.corpus == "pile" and not s.held_out)
    assert pile.root == f"{tmp_path}/{name}/pile"
    assert matches(f"{name}/x", pile.files) and not any(matches(f"{n}/x", pile.files) for n in ("a", "whats", "aab"))


def test_a_benchmark_file_that_exists_as_it_is_named_is_that_file(tmp_path: Path) -> None:
    def files(pattern: str) -> list[str]:
        found = benchmark_files(BenchmarkSettings("b", "gsm8k", (f"{tmp_path}/{pattern}",)))
        return [str(Path(f).relative_to(tmp_path)) for f in found]

    for path in ("[ab]/x.jsonl", "[ab]/[y].jsonl", "a/x.jsonl", "w?t/x.jsonl", "wet/x.jsonl", "z*.jsonl", "zz.jsonl"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    assert files("[ab]/x.jsonl") == ["[ab]/x.jsonl"] and files("[ab]/[y].jsonl") == ["[ab]/[y].jsonl"]
    assert files("[ab]/*.jsonl") == ["[ab]/[y].jsonl", "[ab]/x.jsonl"] and files("w?t/*") == ["w?t/x.jsonl"]
    assert files("z*.jsonl") == ["z*.jsonl"] and files("z?.jsonl") == ["z*.jsonl", "zz.jsonl"]
    (tmp_path / "a" / "again").symlink_to("..")
    assert files("a/**/x.jsonl") == [f"a/{name}/x.jsonl" for name in ("again/[ab]", "again/w?t", "again/wet")] + [
        "a/x.jsonl"
    ]
    with pytest.raises(ValueError, match=r"no file matches .*\[xy\]"):
        files("[xy]/*.jsonl")


def test_only_a_bare_name_is_one_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked_urls.txt").write_text("a.org\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no recipe /nowhere/mini.yaml; give a path"):
        find("/nowhere/mini.yaml")
    assert find("mini") == find("mini.yaml") == PACKAGE / "mini.yaml"
    lists = ["blocked_urls.txt", "./blocked_urls.txt", "/nowhere/blocked_urls.txt"]
    recipe, resolved = load_recipe("sample", [f"url_lists={json.dumps(lists)}"], {"FOX1_DATA": "/d"})
    assert curate_settings(recipe).url_lists == (str(PACKAGE / "blocked_urls.txt"), *lists[1:])
    with pytest.raises(ValueError, match=r"url_lists: nowhere/blocked_urls.txt is relative"):
        pack(resolved | {"url_lists": [lists[2].lstrip("/")]})


def test_a_recipe_of_nothing_but_one_s_own_data_as_the_document_has_it(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (PACKAGE.parent / "docs" / "recipes.md").read_text(), re.DOTALL)
    (text,) = [b for b in blocks if "pile: null" in b]
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.jsonl").write_text(json.dumps({"text": "A note. " * 400_000}) + "\n")
    (tmp_path / "own.yaml").write_text(text.replace("/data/notes", str(notes)))
    recipe, resolved = load_recipe(str(tmp_path / "own.yaml"), [], {})
    assert list(recipe.sources) == ["notes"] and not recipe.held_out.files and not recipe.quality
    assert not {"redpajama", "pile"} & set(yaml.safe_dump(resolved["licence"]).split())
    said: list[str] = []
    assert check_recipe(recipe, said.append, said.append)
    assert said[1].startswith("  notes: 1 file,") and not undrawn_sources(recipe, curate_settings(recipe).mix)
    changed = load_recipe(str(tmp_path / "own.yaml"), ["sources.other.format=pile", f"sources.other.root={notes}"], {})
    assert undrawn_sources(changed[0], curate_settings(changed[0]).mix) == [
        "no phase draws on other: give a phase a weight such as {corpus: other, weight: 1}"
    ]


def test_a_variable_that_many_keys_want_is_told_once() -> None:
    with pytest.raises(RecipeError) as told:
        load_recipe("mini", [], {})
    assert told.value.problems[0].startswith("sources.redpajama.root and ") and len(told.value.problems) == 1


def test_yaml_errors_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\n  y: [\n")
    with pytest.raises(RecipeError, match="line"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_the_schema_describes_every_key() -> None:
    schema = Recipe.model_json_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    for part in (schema, *schema["$defs"].values()):
        # Keys of `held_out` are names of sources, too.
        assert (part["additionalProperties"] is False or part["title"] == "HeldOutParts") and part["description"]
        for key, value in part["properties"].items():
            # Where a description is that of the part it refers to, it stands there.
            assert any(kind.get("description") for kind in (value, *resolved(schema, value))), key


@pytest.mark.parametrize("name", ["fineweb", "fox1", "mini", "sample"])
def test_the_package_s_recipes_are_valid_for_an_editor(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(Recipe.model_json_schema())
    validator.check_schema(validator.schema)
    assert not [error.json_path for error in validator.iter_errors(load_recipe(name, [], VARIABLES)[1])]


def test_settings_do_without_pydantic() -> None:
    code = (
        "import sys, fox1.pipeline.curate, fox1.trainer.settings; "
        "sys.exit(bool({'pydantic', 'fox1.recipes'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_nest_and_pools_have_what_their_group_says() -> None:
    from fox1.recipes.settings import curate_settings

    weights = (
        "phases.phase1.weights=[{domain: web, weight: 3, max_epochs: 2, reuse: [phase3], within: ["
        "{corpus: dolma, weight: 1}, {corpus: pile, weight: 2, max_epochs: 1, by: subset, temperature: 2}]}, "
        "{domain: code, weight: 1, min_quality: 0.2}]"
    )
    phase = curate_settings(load("fox1", weights)).mix.phases[0]
    web, pile, code = phase.pools[0], phase.pools[1], phase.pools[2]
    assert (web.name, web.max_epochs, web.reuse) == ("web in dolma", 2, ("phase3",))
    assert (pile.name, pile.max_epochs, pile.by, pile.temperature) == ("web in pile", 1, "subset", 2)
    assert (code.name, code.min_quality, code.max_epochs, code.reuse) == ("code", 0.2, 1, ())


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ("{weight: 1, temperature: 2}", "`temperature` needs `by`"),
        ("{weight: 1, by: corpus, within: [{weight: 1}]}", "`by` or `within`, not both"),
        ("{weight: 1, domain: web, within: [{weight: 1, domain: code}]}", "cannot lie within one of web"),
        ("{weight: 1, domain: web, reuse: [phase1]}", "earlier claiming phase 'phase1'"),
        ("{weight: 1, corpus: pile, subset: Pile-XX}", "names the subset 'Pile-XX'"),
    ],
)
def test_weights_that_make_no_sense(weight: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load("fox1", f"phases.phase1.weights=[{weight}]")
