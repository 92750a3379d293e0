"""Plug-ins that are named by file: what is loaded, from where, and what never is."""

import sys
from pathlib import Path

import pytest
from fox1.pipeline.engine.keys import identity_of
from fox1.pipeline.signals.plugin_files import split_target
from fox1.pipeline.signals.plugins import PluginSettings, load_plugins, with_version


def verdict(target: str, text: str = "text") -> str:
    (plugin,) = load_plugins([with_version(PluginSettings("ours", target))])
    return plugin.judge(text, {"row": 0})[0]


def test_a_target_is_a_file_or_a_dotted_path() -> None:
    assert split_target("rules/shouting.py:calm") == (Path("rules/shouting.py"), "calm")
    assert split_target("rules.shouting:calm") is split_target("rules.shouting.calm") is split_target("calm.py") is None


def test_files_of_one_name_do_not_meet_and_no_search_path_changes(tmp_path: Path) -> None:
    before, modules = list(sys.path), set(sys.modules)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rule.py").write_text(f"def judge(text, row): return 'rule of {folder}'\n")
    assert verdict(f"{tmp_path}/a/rule.py:judge") == "rule of a"
    assert verdict(f"{tmp_path}/b/rule.py:judge") == "rule of b"
    (tmp_path / "a" / "rule.py").write_text("def judge(text, row): return 'changed'\n")
    assert verdict(f"{tmp_path}/a/rule.py:judge") == "changed"
    assert sys.path == before and {m.partition("_")[0] for m in set(sys.modules) - modules} == {"fox1"}
    assert "rule" not in sys.modules


def test_modules_of_a_package_import_each_other_relatively(tmp_path: Path) -> None:
    package = tmp_path / "rules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("WORDS = ['fox']\n")
    (package / "foxes.py").write_text(
        "from .words import WORDS\n\n\ndef judge(text, row):\n    return any(w in text for w in WORDS)\n"
    )
    target = f"{package}/foxes.py:judge"
    assert verdict(target, "a fox") == "" and verdict(target, "a hound") == "ours"
    # Any file of the package is a part of its version, and so of the key of the scan.
    before = with_version(PluginSettings("ours", target))
    (package / "words.py").write_text("WORDS = ['hound']\n")
    assert with_version(before).version != before.version
    assert verdict(target, "a fox") == "ours" and verdict(target, "a hound") == ""


def test_a_worker_refuses_other_code_than_was_planned_with(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("def judge(text, row): return True\n")
    planned = with_version(PluginSettings("ours", f"{tmp_path}/rule.py:judge"))
    (tmp_path / "rule.py").write_text("def judge(text, row): return False\n")
    with pytest.raises(ValueError, match=r"plug-in ours: .* is not the code that this run was planned with"):
        load_plugins([planned])
    (tmp_path / "rule.py").unlink()
    with pytest.raises(ValueError, match=r"plug-in ours: .*there is no file .*rule\.py"):
        load_plugins([planned])


def test_code_in_a_run_is_never_loaded(tmp_path: Path) -> None:
    code = tmp_path / "run" / "files" / "rule.py"
    code.parent.mkdir(parents=True)
    code.write_text("raise SystemExit('executed')\n")
    for name in ("manifest.json", "recipe.yaml"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(ValueError, match=r"lies in the run .*, and code is never loaded from a run"):
        verdict(f"{code}:judge")


def test_the_current_folder_is_not_searched_for_a_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rule_beside.py").write_text("def judge(text, row): return True\n")
    monkeypatch.chdir(tmp_path)
    # As `python -m` does; a folder of PYTHONPATH was asked for.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(ValueError, match=r"module of the current folder .* as in rule_beside\.py:NAME"):
        verdict("rule_beside.judge")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert verdict("rule_beside.judge") == ""
    monkeypatch.delitem(sys.modules, "rule_beside")


def test_a_file_that_fails_while_it_is_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("import no_such_module\n")
    with pytest.raises(
        ValueError, match=r"plug-in ours: cannot import .*rule\.py:judge: No module named 'no_such_module'"
    ):
        load_plugins([PluginSettings("ours", f"{tmp_path}/rule.py:judge")])


def test_a_key_depends_on_the_code_of_a_plugin_and_not_on_its_folder(tmp_path: Path) -> None:
    keys = {}
    for folder, code in (("a", "True"), ("b", "True"), ("c", "False")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rule.py").write_text(f"def judge(text, row): return {code}\n")
        keys[folder] = identity_of(with_version(PluginSettings("ours", f"{tmp_path}/{folder}/rule.py:judge")))
    assert keys["a"] == keys["b"] != keys["c"]
