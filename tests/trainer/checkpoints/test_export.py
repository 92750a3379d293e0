"""Export, import and generation: equal to `transformers`, weight by weight, logit by logit, token by token."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from fox1.commands.app import app
from fox1.tokenize import fast_tokenizer
from fox1.tokenize.chat import TEMPLATES, compose, rendered
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import load
from fox1.trainer.checkpoints.checkpoint import TrainingProgress, checkpoints, read_manifest, write_whole
from fox1.trainer.checkpoints.export import (
    FACTS,
    export,
    from_llama,
    import_model,
    load_checkpoint,
    read_exported,
    to_llama,
)
from fox1.trainer.checkpoints.tokenizer_facts import TokenizerFacts
from fox1.trainer.evaluate.generate import Cache, Sampling, generate, next_logits
from fox1.trainer.evaluate.text_model import open_model
from fox1.trainer.model.model import Fox1
from fox1.trainer.settings import FOX1_VOCABULARY, ModelSettings, Options
from fox1.trainer.train import train as run_training
from typer.testing import CliRunner

from tests.conftest import ONE_LAYER, run_to_train
from tests.trainer.model.test_model import documents

SHAPE = ModelSettings(layers=3, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=96)
IDS = TokenizerFacts(0, 1, 2, TEMPLATES["gemma"])
ENDS = [1, 5]
"""eos, and what ends a turn of the template, in the tokenizer below."""


@pytest.fixture(scope="module")
def made(chat_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fox1, Path]:
    """A random model and its checkpoint."""
    root = tmp_path_factory.mktemp("made")
    model = Fox1(SHAPE, 370)
    model.initialise(5)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.0 if p.ndim == 1 else 12.0)  # so that logits differ clearly
            if p.ndim == 1:
                p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(p))))
    write_whole(root, model, TrainingProgress(), {"model": vars(SHAPE)}, 370)
    (root / FACTS).write_text(json.dumps(vars(IDS)))
    (root / "tokenizer.model").write_bytes(chat_tokenizer.read_bytes())
    return model, root


@pytest.fixture(scope="module")
def exported(made: tuple[Fox1, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    assert export(made[1], folder, "fp32") == sum(p.numel() for p in made[0].parameters())
    return folder


def test_a_model_whose_texts_had_no_bos_is_given_none(made: tuple[Fox1, Path], tmp_path: Path) -> None:
    root, folder = tmp_path / "made", tmp_path / "model"
    shutil.copytree(made[1], root)
    (root / FACTS).write_text(json.dumps({**vars(IDS), "add_bos": False}))
    export(root, folder, "fp32")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["add_bos_token"] is False and "bos_token" not in config["chat_template"]
    ids = read_exported(folder)[1]
    assert (ids.add_bos, ids.opening, ids.prefix) == (False, [], IDS.eos)
    assert (IDS.add_bos, IDS.opening, IDS.prefix) == (True, [IDS.bos], IDS.bos)


def test_transformers_loads_it_with_equal_logits(made: tuple[Fox1, Path], exported: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    tokens = torch.randint(0, 370, (70,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens[None]).logits[0]
        found = made[0].logits(tokens, documents([70]))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id, theirs.config.pad_token_id) == (2, ENDS, 0)
    assert theirs.get_input_embeddings().weight.data_ptr() == theirs.get_output_embeddings().weight.data_ptr()


@pytest.mark.parametrize("length", [1, 7, 40])
def test_greedy_generation_equals_transformers_token_by_token(
    made: tuple[Fox1, Path], exported: Path, length: int
) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    prompt = torch.randint(4, 370, (length,), generator=torch.Generator().manual_seed(length))
    expected = theirs.generate(prompt[None], max_new_tokens=40, do_sample=False)[0, length:].tolist()
    found = list(generate(made[0], prompt.tolist(), 40, ENDS))
    assert found == [t for t in expected if t not in ENDS] and len(set(found)) > 3


def test_the_cache_gives_the_logits_of_the_whole_sequence(made: tuple[Fox1, Path]) -> None:
    model = made[0]
    tokens = torch.randint(0, 370, (30,), generator=torch.Generator().manual_seed(2))
    cache = Cache(model, 30)
    parts = [next_logits(model, tokens[a:b], cache) for a, b in ((0, 11), (11, 12), (12, 20), (20, 30))]
    with torch.no_grad():
        whole = model.logits(tokens, documents([30]))
    for logits, last in zip(parts, (10, 11, 19, 29), strict=True):
        torch.testing.assert_close(logits, whole[last], atol=1e-4, rtol=1e-4)


def test_sampling_follows_its_seed_and_its_nucleus(made: tuple[Fox1, Path]) -> None:
    def sampled(**choices: float) -> list[int]:
        return list(generate(made[0], [5, 6, 7], 20, sampling=Sampling(**choices)))  # type: ignore[arg-type]

    assert sampled(temperature=1.0, seed=1) == sampled(temperature=1.0, seed=1) != sampled(temperature=1.0, seed=2)
    # A nucleus of nothing is the likeliest token.
    assert sampled(temperature=1.0, top_p=1e-6) == sampled()
    with pytest.raises(ValueError, match="the model takes 1 to 95"):
        list(generate(made[0], [5] * 96, 1))
    assert len(list(generate(made[0], [5] * 90, 50))) == 6


def test_there_and_back_is_the_same_model(made: tuple[Fox1, Path], exported: Path, tmp_path: Path) -> None:
    assert import_model(exported, tmp_path / "back") == sum(p.numel() for p in made[0].parameters())
    back, ids = load_checkpoint(tmp_path / "back")
    template = json.loads((exported / "tokenizer_config.json").read_text())["chat_template"]
    assert back.settings == SHAPE and ids == replace(IDS, chat=(), template=template, stops=(5,))
    for name, value in made[0].state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    again, _ = read_exported(exported)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), back.parameters(), strict=True))
    with pytest.raises(ValueError, match="already has checkpoints"):
        import_model(exported, tmp_path / "back")
    # Exported again, it is the same folder.
    export(tmp_path / "back", tmp_path / "again", "fp32")
    for file in sorted(exported.iterdir()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_names_and_shapes_of_the_full_model_are_those_of_llama() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        exported = to_llama(Fox1(ModelSettings(), FOX1_VOCABULARY).state_dict(), ModelSettings())
        config = transformers.LlamaConfig(
            vocab_size=FOX1_VOCABULARY, hidden_size=2048, intermediate_size=4096, num_hidden_layers=32,
            num_attention_heads=16, num_key_value_heads=4, tie_word_embeddings=True,
        )  # fmt: skip
        theirs = transformers.LlamaForCausalLM(config).state_dict()
    theirs.pop("lm_head.weight", None)
    assert {n: tuple(t.shape) for n, t in exported.items()} == {n: tuple(t.shape) for n, t in theirs.items()}


def test_the_exported_tokenizer_is_the_run_s(chat_tokenizer: Path, exported: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    processor = load(chat_tokenizer)
    for text in ("What does the fox say? 123", "  two  spaces\n\n\nlines", "naïve – 狐"):
        assert theirs(text)["input_ids"] == [2, *processor.encode(text)]
    turns = [("user", "What does it say?"), ("assistant", 'Nothing "new".\n'), ("user", "ok")]
    messages = [{"role": role, "content": said} for role, said in turns]
    shown = theirs.apply_chat_template(messages, tokenize=False)
    assert shown == "<bos>" + rendered(compose(turns), TEMPLATES["gemma"])
    prompt = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == shown + "<start_of_turn>model\n"


def test_an_answer_ends_where_its_turn_does(exported: Path, made: tuple[Fox1, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    assert tokenizer.convert_ids_to_tokens(ENDS) == ["<eos>", "<end_of_turn>"]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((exported / name).read_text())["eos_token_id"] == ENDS
    assert open_model(exported).ends == open_model(made[1]).ends == frozenset(ENDS)


def test_a_template_refuses_a_role_that_it_does_not_have(exported: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    with pytest.raises(Exception, match="no role developer; its roles are system, user, assistant, tool"):
        tokenizer.apply_chat_template([{"role": "developer", "content": "Be brief."}], tokenize=False)


@pytest.mark.parametrize("form", ["file", "named"])
def test_an_imported_model_keeps_its_template_and_its_ends(exported: Path, tmp_path: Path, form: str) -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    theirs = tmp_path / "theirs"
    shutil.copytree(exported, theirs)
    config = json.loads((theirs / "tokenizer_config.json").read_text())
    del config["chat_template"]
    if form == "file":
        (theirs / "chat_template.jinja").write_text(template)
    else:
        config["chat_template"] = [{"name": "default", "template": template}, {"name": "rag", "template": "x"}]
    (theirs / "tokenizer_config.json").write_text(json.dumps(config))
    generation = json.loads((theirs / "generation_config.json").read_text())
    (theirs / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": [1, 9, 7]}))
    import_model(theirs, tmp_path / "ckpt")
    export(tmp_path / "ckpt", tmp_path / "again", "fp32")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["chat_template"] == template
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text())["eos_token_id"] == [1, 9, 7]


def test_an_export_says_what_it_could_not_compare(
    made: tuple[Fox1, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    said: list[str] = []
    export(made[1], tmp_path / "model", "fp32", warn=said.append)
    assert len(said) == 1 and "was not compared with the SentencePiece model" in said[0]
    assert (tmp_path / "model" / "tokenizer.json").exists()


def test_a_tokenizer_with_other_ids_is_refused_before_anything_is_written(
    made: tuple[Fox1, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(fast_tokenizer, "_merges", lambda pieces: [])
    with pytest.raises(ValueError, match=r"cannot be exported for `transformers`: `tokenizers` encodes .* as \["):
        export(made[1], tmp_path / "model", "fp32")
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="holds checkpoints"):
        export(made[1], made[1], "fp32")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("model.norm.weight"), "no weight model.norm.weight"),
        (lambda s: s.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(1)}), "has no place for"),
        (lambda s: s.update({"lm_head.weight": torch.zeros(370, 64)}), "differs from the embedding"),
    ],
)
def test_a_model_other_than_a_fox1_is_refused(
    made: tuple[Fox1, Path], change: Callable[[dict], object], says: str
) -> None:  # type: ignore[type-arg]
    state = to_llama(made[0].state_dict(), SHAPE)
    change(state)
    with pytest.raises(ValueError, match=says):
        from_llama(state, SHAPE)


@pytest.mark.slow
def test_a_trained_model_is_exported_and_continues_a_text(run: Path, tmp_path: Path) -> None:
    small = tmp_path / "run"
    run_to_train(run, small, ONE_LAYER, evaluate_blocks=2)
    assert run_training(small, tmp_path / "ckpt", [0], Options(stop_after=2)) == 75
    last = checkpoints(tmp_path / "ckpt")[-1]
    assert read_manifest(last).progress.step == 2
    invoke = CliRunner().invoke
    done = invoke(app, ["export", str(tmp_path / "ckpt"), str(tmp_path / "out")])
    assert done.exit_code == 0 and "in bf16" in done.output, done.output
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (2, [1, 5], 0)
    assert "chat_template" in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    for source in ("ckpt", "out"):
        done = invoke(app, ["generate", str(tmp_path / source), "The fox", "--tokens", "5"])
        assert done.exit_code == 0 and "tokens" in done.stderr, done.output
    ids = Encoder(run / "prepare" / "tokenizer.model").encode(pa.array(["The fox"], pa.large_string())).ids
    assert len(ids)
    for arguments, says in (
        (["export", str(tmp_path / "none"), str(tmp_path / "x")], "no checkpoint in"),
        (["import", str(tmp_path / "ckpt"), str(tmp_path / "x")], "has no config.json"),
        (["generate", str(tmp_path / "none"), "x"], "no checkpoint in"),
    ):
        assert says in str(invoke(app, arguments).exception)


@pytest.mark.slow
def test_a_training_begins_with_the_weights_of_an_imported_model(run: Path, tmp_path: Path) -> None:
    small = tmp_path / "run"
    run_to_train(run, small, ONE_LAYER, evaluate_blocks=2)
    assert run_training(small, tmp_path / "first", [0]) == 0
    export(tmp_path / "first", tmp_path / "model", "fp32")
    import_model(tmp_path / "model", tmp_path / "imported")
    options = Options(resume=str(tmp_path / "imported"), stop_after=1)
    assert run_training(small, tmp_path / "second", [0], options) == 75
    assert "starting from the weights of" in (tmp_path / "second" / "train.log").read_text()
    read = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("second", "first")]
    lines, first = ([v for v in map(json.loads, lines) if v["kind"] != "run"] for lines in read)
    # The first step of the second begins where the first training ended, not at a random model's log(1,024) = 6.93.
    assert lines[0]["step"] == 1 and lines[0]["loss"] < 6.85
    assert lines[0]["loss"] == pytest.approx(first[-1]["loss"], abs=0.2)
