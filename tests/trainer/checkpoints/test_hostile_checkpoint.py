"""A checkpoint or an exported model that anyone may have made: read as it is, or refused in one line before it is built."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from fox1.trainer.checkpoints.checkpoint import TrainingProgress, _checksum, checkpoints, write_whole
from fox1.trainer.checkpoints.export import FACTS, export, load_checkpoint, read_exported
from fox1.trainer.checkpoints.reader import METADATA, METADATA_BYTES
from fox1.trainer.checkpoints.tokenizer_facts import TokenizerFacts
from fox1.trainer.model.model import Fox1
from fox1.trainer.settings import ModelSettings, TrainSettings

SHAPE = ModelSettings(layers=2, hidden=16, intermediate=24, heads=2, kv_heads=1, head_dim=8, max_positions=64)
PIECES = 370


@pytest.fixture(scope="module")
def made(chat_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model's checkpoint."""
    root = tmp_path_factory.mktemp("whole")
    model = Fox1(SHAPE, PIECES)
    model.initialise(1)
    write_whole(root, model, TrainingProgress(), {"model": asdict(SHAPE)}, PIECES)
    (root / FACTS).write_text(json.dumps(asdict(TokenizerFacts(0, 1, 2))))
    shutil.copyfile(chat_tokenizer, root / "tokenizer.model")
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(made, folder)
    return folder


def sign(root: Path, change: Callable[[dict[str, Any]], object] = dict) -> None:
    """Change a manifest, and give it the checksums of the files as they are."""
    (step,) = checkpoints(root)
    value = json.loads((step / "manifest.json").read_text())
    del value["checksum"]
    for name in value["files"]:
        if (step / name).stat().st_size < 1 << 30:
            value["files"][name] = sha256((step / name).read_bytes()).hexdigest()
    change(value)
    (step / "manifest.json").write_text(json.dumps({**value, "checksum": _checksum(value)}))


def refuses(read: Callable[[Path], object], folder: Path, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(folder)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600 and not isinstance(caught.value, json.JSONDecodeError), message


def test_a_shape_is_known_without_the_model() -> None:
    with torch.device("meta"):
        model = Fox1(SHAPE, PIECES)
    assert SHAPE.shapes(PIECES) == {name: tuple(p.shape) for name, p in model.state_dict().items()}


def model_with(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["settings"]["model"].update(values)


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "ten million layers": (model_with(layers=10**7), "10,000,000 layers has more than the 14 weights"),
    "a width that nobody has": (model_with(hidden=1 << 60), "cannot have hidden"),
    "a width that is not stored": (model_with(hidden=1 << 20), "embedding is 370 x 16 in the files"),
    "no layers": (model_with(layers=0), "cannot have layers 0"),
    "heads that cannot be divided": (model_with(heads=3, kv_heads=2), "3 heads with 2"),
    "an endless number": (model_with(norm_eps=float("inf")), "norm_eps inf"),
    "a width that is text": (model_with(hidden="\x1b[2Jx"), "model.hidden is"),
    "an unknown key": (model_with(**{"\x1b]0;owned\x07": 1}), "owned.* is unknown to this version"),
    "no model": (lambda m: m["settings"].pop("model"), "does not describe a model"),
    "settings that are a list": (lambda m: m.update(settings=[]), "settings is a list"),
    "a negative vocabulary": (lambda m: m.update(vocab_size=-1), "negative number"),
    "a later version": (lambda m: m.update(version=99), "version is unknown to this version"),
    "a step that is text": (lambda m: m["progress"].update(step="9"), "progress.step is '9'"),
    "a file elsewhere": (lambda m: m["files"].update({"../pipe": "0"}), "not the name of a file that it can have"),
    "a device": (lambda m: m["files"].update({"/dev/zero": "0"}), "not the name of a file that it can have"),
    "files that are a list": (lambda m: m.update(files=[]), "files is a list"),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_hostile_manifest_is_refused(what: str, copy: Path) -> None:
    change, says = MANIFESTS[what]
    sign(copy, change)
    refuses(load_checkpoint, copy, says)


def nested(depth: int = 24) -> bytes:
    """A dictionary with a tuple of tuples of tuples as its key: its hash takes 2^depth steps."""
    pairs = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(depth))
    return b"\x80\x04)q\x000" + pairs + b"}h" + bytes([depth]) + b"Ns."


INDEX = b"ctorch.distributed.checkpoint.metadata\nMetadataIndex\n"
PICKLES = {
    "a key that takes a year to hash": nested(),
    "an index whose name is a tuple": b"\x80\x04}" + INDEX + b")\x81}\x8c\x03fqn))\x86sbNs.",
    "an enumeration of tuples": b"\x80\x04ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n)))\x87\x85\x85R.",
    "a class that is changed": b"\x80\x04ctorch.distributed.checkpoint.metadata\nMetadata\nN}\x8c\x07versionNs\x86b.",
    "a terabyte of bytes": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    "a terabyte of memory for names": b"\x80\x04Nr\xff\xff\xff\xff.",
    "tuples without an end": b"\x80\x04" + b"(" * 3_000_000 + b"t" * 3_000_000 + b".",
    "lists without an end": b"\x80\x04" + b"]" * 3_000_000 + b".",
    "a set": b"\x80\x04\x8f.",
    "a number": b"\x80\x04K\x01.",
    "nothing": b"",
}


@pytest.mark.parametrize("what", PICKLES)
def test_hostile_metadata_is_refused(what: str, copy: Path) -> None:
    (step,) = checkpoints(copy)
    (step / METADATA).write_bytes(PICKLES[what])
    sign(copy)
    refuses(load_checkpoint, copy, r"cannot be read as a checkpoint \((\.metadata is damaged|its metadata)")


def change_metadata(step: Path, change: Callable[[Any], object]) -> None:
    metadata = pickle.loads((step / METADATA).read_bytes())
    change(metadata)
    (step / METADATA).write_bytes(pickle.dumps(metadata))


def places(m: Any, **values: Any) -> None:
    for place in m.storage_data.values():
        vars(place).update(values)


def grow(m: Any) -> None:
    for value in m.state_dict_metadata.values():
        value.size = torch.Size([n << 20 for n in value.size])


METADATA_SAYS: dict[str, tuple[Callable[[Any], object], str]] = {
    "values in another folder": (lambda m: places(m, relative_path="../../etc/passwd"), "not the name of a data file"),
    "values that begin before the file": (lambda m: places(m, offset=-1), "an offset is no whole number"),
    "more bytes than the values have": (lambda m: places(m, length=1 << 40), "takes more bytes than its size says"),
    "a program that unpacks": (lambda m: places(m, transform_descriptors=["zstd"]), "not the name of a data file"),
    "sizes of terabytes": (grow, "is 387973120 x 16777216 in the files"),
    "no places": (lambda m: setattr(m, "storage_data", None), "not that of a checkpoint"),
    "no names": (lambda m: setattr(m, "state_dict_metadata", []), "not that of a checkpoint"),
    "parts outside": (
        lambda m: [
            setattr(v.chunks[0], "offsets", torch.Size([9] * len(v.size))) for v in m.state_dict_metadata.values()
        ],
        "lies outside it",
    ),
    "parts of other dimensions": (
        lambda m: [setattr(v.chunks[0], "sizes", torch.Size([1] * 3)) for v in m.state_dict_metadata.values()],
        "other dimensions than it",
    ),
    "a part that is none": (
        lambda m: [setattr(v, "chunks", [None]) for v in m.state_dict_metadata.values()],
        "a part that is none",
    ),
    "numbers of no type": (
        lambda m: [setattr(v.properties, "dtype", None) for v in m.state_dict_metadata.values()],
        "is of no type of numbers",
    ),
    "places of values that are not there": (
        lambda m: [m.state_dict_metadata.pop(name) for name in list(m.state_dict_metadata)[1:]],
        "it has a place for .*, which is none of its values",
    ),
    "the same parts again and again": (
        lambda m: [setattr(v, "chunks", v.chunks * 50) for v in m.state_dict_metadata.values()],
        "more parts than places",
    ),
}


@pytest.mark.parametrize("what", METADATA_SAYS)
def test_metadata_that_contradicts_itself_is_refused(what: str, copy: Path) -> None:
    change, says = METADATA_SAYS[what]
    change_metadata(checkpoints(copy)[0], change)
    sign(copy)
    refuses(load_checkpoint, copy, says)


def test_no_file_is_read_beyond_what_the_metadata_accounts_for(copy: Path) -> None:
    (step,) = checkpoints(copy)
    os.truncate(step / "__0_0.distcp", 1 << 42)
    sign(copy)
    refuses(load_checkpoint, copy, "__0_0.distcp is damaged")
    os.truncate(step / METADATA, METADATA_BYTES + 1)
    refuses(load_checkpoint, copy, "larger than 32 MiB")


@pytest.mark.parametrize("name", ["__0_0.distcp", METADATA, "manifest.json", f"../{FACTS}"])
def test_nothing_is_waited_for(name: str, copy: Path) -> None:
    (step,) = checkpoints(copy)
    (step / name).unlink()
    os.mkfifo(step / name)
    refuses(load_checkpoint, copy, "not a regular file|is damaged")


def test_a_model_that_no_memory_holds_is_refused_before_it_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 64)
    refuses(load_checkpoint, copy, "its weights take 0 GB in fp32, and this machine has 0 GB")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ('{"pad":0,"eos":1,"bos":"\\u001b[2J"}', "bos is '"),
        ('{"pad":0,"eos":1,"bos":2,"chat":[["a"]]}', r"chat\[0\] is a list"),
        ('{"pad":0,"eos":1,"bos":370}', "the id of bos is 370, and the model has 370 pieces"),
        ('{"pad":0,"eos":1}', "bos is missing"),
        ("[1]", "it is a list"),
        ("", "Expecting value"),
    ],
)
def test_facts_of_another_shape_are_refused(facts: str, says: str, copy: Path) -> None:
    (copy / FACTS).write_text(facts)
    refuses(load_checkpoint, copy, f"{FACTS} is damaged .*{says}")


def one_tensor(shape: list[int]) -> bytes:
    header = json.dumps(
        {"model.embed_tokens.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + b"0000"


EXPORTS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a thousand million layers": (
        "config.json",
        lambda c: {**c, "num_hidden_layers": 10**9},
        "num_hidden|cannot have layers",
    ),
    "a million layers": ("config.json", lambda c: {**c, "num_hidden_layers": 10**6}, "1,000,000 layers has more than"),
    "layers that are text": ("config.json", lambda c: {**c, "num_hidden_layers": "\x1b[2J"}, "num_hidden_layers is '"),
    "no heads": ("config.json", lambda c: {k: v for k, v in c.items() if k != "num_attention_heads"}, "heads is None"),
    "a vocabulary of tera": ("config.json", lambda c: {**c, "vocab_size": 1 << 40}, "cannot have vocab_size"),
    "another vocabulary": ("config.json", lambda c: {**c, "vocab_size": 1000}, "370 x 16 in the files, and 1000 x 16"),
    "a list": ("config.json", lambda c: [c], "config.json is damaged .it is a list"),
    "a tokenizer that is a list": ("tokenizer_config.json", lambda c: [], "tokenizer_config.json is damaged"),
    "a tensor larger than its file": ("model.safetensors", lambda c: one_tensor([1 << 40]), "safetensors is damaged"),
    "one tensor": ("model.safetensors", lambda c: one_tensor([1]), "layers has more than the 1 weights"),
    "no tensors": ("model.safetensors", lambda c: b"", "safetensors is damaged"),
}


@pytest.mark.parametrize("what", EXPORTS)
def test_a_hostile_model_of_transformers_is_refused(what: str, exported: Path, tmp_path: Path) -> None:
    name, change, says = EXPORTS[what]
    shutil.copytree(exported, tmp_path / "x")
    path = tmp_path / "x" / name
    value = change(json.loads(path.read_text()) if path.suffix == ".json" else None)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    refuses(read_exported, tmp_path / "x", says)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"])
def test_no_file_of_a_model_of_transformers_is_waited_for(name: str, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "x")
    (tmp_path / "x" / name).unlink()
    os.mkfifo(tmp_path / "x" / name)
    refuses(read_exported, tmp_path / "x", "not a regular file")


@pytest.mark.parametrize(
    "change", [{"seed": "1"}, {"phases": 1}, {"model": {"layers": "x"}}, {"unknown": 1}, {"optimizer": []}]
)
def test_training_settings_of_another_shape_are_refused(change: dict[str, Any]) -> None:
    good = {
        "model": {"layers": 1},
        "phases": [{"name": "phase1", "tokens": 64, "batch_tokens": 16, "number": 1}],
        "micro_batch_tokens": 16,
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": 1},
    }
    assert TrainSettings.from_json(good).model.layers == 1
    with pytest.raises(ValueError, match="does not fit this version of fox1"):
        TrainSettings.from_json({**good, **change})
