"""What of a recipe travels with a job, what stays where it is, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fox1.cluster.submit import stage_job
from fox1.recipes import travel
from fox1.recipes.load import load_recipe, stored_recipe
from fox1.recipes.settings import curate_settings
from fox1.recipes.travel import keep_lists, pack


def resolved(*changes: str, data: str = "/data") -> dict[str, Any]:
    return load_recipe("sample", changes, {"FOX1_DATA": data})[1]


def test_relative_data_is_refused_by_key() -> None:
    with pytest.raises(ValueError, match=r"^sources\.redpajama\.root: here/redpajama is relative; a job needs a URL"):
        pack(resolved(data="here"))
    with pytest.raises(ValueError, match=r"^held_out\.pile\.root: here is relative"):
        pack(resolved("held_out.pile={root: here, files: [a]}"))


def test_a_recipe_of_absolute_paths_and_urls_travels_alone_and_unchanged() -> None:
    recipe = resolved("exclude.lists=[/nowhere/a.txt, s3://bucket/b.txt]", "tokenizer.model=hf://a/b.model")
    assert pack(recipe) == (recipe, {})
    # A list of the package's own is on the cluster already.
    assert pack(resolved("url_lists=[blocked_urls.txt]"))[1] == {}


def test_lists_and_models_travel_under_names_of_their_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, text in (("a", "s3://b/1\n"), ("b", "two\n"), ("c", "s3://b/1\n")):
        Path(folder).mkdir()
        Path(folder, "list.txt").write_text(text)
    Path("some.model").write_bytes(b"model")
    lists = f"url_lists=[a/list.txt, b/list.txt, {tmp_path}/c/list.txt]"
    recipe = resolved(lists, "sources.pile.urls=a/list.txt", "tokenizer.model=some.model", "exclude.lists=[b/list.txt]")
    packed, files = pack(recipe)
    first, second, third = packed["url_lists"]
    # Lists of one name and other contents do not meet; the same contents travel once.
    assert first == third == packed["sources"]["pile"]["urls"] != second == packed["exclude"]["lists"][0]
    assert sorted(files.values()) == [b"model", b"s3://b/1\n", b"two\n"] and files[first] == b"s3://b/1\n"
    assert files[packed["tokenizer"]["model"]] == b"model"
    assert recipe["url_lists"][0] == "a/list.txt", "the recipe itself is left as it was"
    # Read in the job's folder, the recipe names what lies there, and packing it again changes nothing.
    monkeypatch.chdir(tmp_path / "a")
    stage_job(Path(), {"recipe.yaml": yaml.safe_dump(packed).encode(), **files})
    parsed, again = load_recipe("recipe.yaml", [], {})
    assert curate_settings(parsed).url_lists == (first, second, third) and again == packed
    assert pack(again) == (packed, files)


def test_a_list_that_is_not_here_is_refused_if_it_is_relative() -> None:
    with pytest.raises(ValueError, match=r"^exclude\.lists: gone\.txt is relative, and there is no such file here"):
        pack(resolved("exclude.lists=[gone.txt]"))


def test_a_list_of_paths_beside_it_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://example.org/a.jsonl\nb/c.jsonl\n")
    with pytest.raises(ValueError, match=r"^sources\.pile\.urls: .* has the line 'b/c.jsonl', a path below its folder"):
        pack(resolved(f"sources.pile.urls={tmp_path}/list.txt"))


def test_what_is_too_large_is_refused_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "MOST", 2 << 20)
    (tmp_path / "large.txt").write_bytes(b"a" * 3_000_000)
    with pytest.raises(ValueError, match=r"^exclude\.lists: .*large\.txt \(3 MB\) is too large to travel .* 2 MiB"):
        pack(resolved(f"exclude.lists=[{tmp_path}/large.txt]"))


def test_a_run_keeps_the_lists_that_travelled_but_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("https://example.org/data/a.jsonl\n")
    Path("rule.py").write_text("def judge(text, row): return True\n")
    recipe = resolved("sources.pile.urls=list.txt", f"plugins={{ours: {{target: '{tmp_path}/rule.py:judge'}}}}")
    packed, files = pack(recipe)
    job, run = tmp_path / "job", tmp_path / "run"
    stage_job(job, {"recipe.yaml": yaml.safe_dump(packed).encode(), **files})
    monkeypatch.chdir(job)
    keep_lists(packed, run)
    (run / "recipe.yaml").write_bytes((job / "recipe.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    _, stored = stored_recipe(run / "recipe.yaml")
    kept = Path(stored["sources"]["pile"]["urls"])
    assert kept.is_relative_to(run) and kept.read_text().startswith("https://example.org")
    assert [p.name for p in run.rglob("*") if p.is_file() and "files" in p.parts] == ["list.txt"]
    assert stored["plugins"]["ours"]["target"] == packed["plugins"]["ours"]["target"]


def test_a_plugin_travels_with_its_package(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    (rules / "__pycache__").mkdir(parents=True)
    contents = {"__init__.py": "", "shouting.py": "def calm(text, row): return True\n", "words.txt": "a\n"}
    for name, text in {**contents, "__pycache__/shouting.pyc": "x"}.items():
        (rules / name).write_text(text)
    (tmp_path / "mine.yaml").write_text(
        "extends: sample.yaml\nplugins: {calm: {target: rules/shouting.py:calm}}\n"
        "before_scan: {first: {target: rules/shouting.py:First}}\n"
    )
    _, recipe = load_recipe(str(tmp_path / "mine.yaml"), [], {"FOX1_DATA": "/data"})
    assert recipe["plugins"]["calm"]["target"] == f"{rules}/shouting.py:calm"
    packed, files = pack(recipe)
    target = packed["plugins"]["calm"]["target"]
    folder = target.removesuffix("/shouting.py:calm")
    assert packed["before_scan"]["first"]["target"] == f"{folder}/shouting.py:First"
    assert {name: content.decode() for name, content in files.items()} == {
        f"{folder}/{name}": text for name, text in contents.items()
    }
    (rules / "words.txt").write_text("b\n")
    assert pack(recipe)[0]["plugins"]["calm"]["target"] != target


def test_a_plugin_is_looked_for_beside_the_recipe_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text("extends: sample.yaml\nplugins: {a: {target: a.py:f}}\n")
    (tmp_path / "top.yaml").write_text("extends: base/base.yaml\nplugins: {b: {target: b.py:f}}\n")
    monkeypatch.chdir("/")
    variables = {"FOX1_DATA": "/data"}
    _, recipe = load_recipe(str(tmp_path / "top.yaml"), ["plugins.c={target: 'c.py:f'}"], variables)
    targets = {name: plugin["target"] for name, plugin in recipe["plugins"].items()}
    assert targets == {"a": f"{tmp_path}/base/a.py:f", "b": f"{tmp_path}/b.py:f", "c": f"{tmp_path}/c.py:f"}
    with pytest.raises(ValueError, match=r"^plugins\.a\.target: there is no file .*/base/a\.py"):
        pack(recipe)
