"""Small files that a recipe names: exclude and block lists, benchmark items, tokenizer models."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

import pyarrow as pa

from .cases import Case, Fault, damage, refused, text_of

ENTRIES = (
    "web/a.jsonl#3", "9223372036854775807", "id:hound", "url:https://x.org/a?b=c", "hash:" + "0f" * 16, "# a note", "",
    "18446744073709551616", "web/a.jsonl#-1", "id:", "url:", "hash:zz", "none/x#1", "id:\u202e", "url:http://[::1",
    "host:x.org", "host:", "host:[::1]", "host:a/b",
)  # fmt: skip
RULES = (
    "x.org",
    "ads.x.org",
    "word",
    "http://x.org/a/",
    "127.0.0.1 x.org",
    "*.x.org",
    "live-cam",
    "||x.org^",
    ".x",
    "é.fr",
    "#",
)
ITEMS = {
    "arc.jsonl": {
        "id": "1",
        "question": {"stem": "Which?", "choices": [{"text": "a", "label": "A"}]},
        "answerKey": "A",
    },
    "gsm8k.jsonl": {"question": "1 and 2?", "answer": "They are 3. #### 3"},
    "hellaswag.jsonl": {"ctx": "A stone", "label": 0, "endings": ["falls.", "rises."]},
    "boolq.jsonl": {"question": "is it", "passage": "It is.", "answer": True},
    "humaneval.jsonl": {"task_id": "x/0", "prompt": "def f():", "canonical_solution": "    return 1"},
    "openbookqa.jsonl": {"question_stem": "Why", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"},
    "piqa.jsonl": {"goal": "Rest", "sol1": "Sit.", "sol2": "Run.", "label": 0},
    "winogrande.jsonl": {"sentence": "The _ broke.", "option1": "a", "option2": "b", "answer": "1"},
    "question_answer.jsonl": {"question": "Why?", "answer": "So."},
    "mmlu.csv": "Q?,one,two,three,four,A\n",
    "truthfulqa.csv": "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\nA,B,Q?,x,x,y,z\n",
}


def make_exclude(rng: random.Random) -> Case:
    lines = [rng.choice(ENTRIES) + (text_of(rng, 2) if rng.random() < 0.2 else "") for _ in range(rng.randrange(8))]
    data = "\n".join(lines).encode()
    return Case("gone.txt", data if rng.random() < 0.5 else damage(data, rng))


def read_exclude(case: Case, folder: Path) -> str:
    """Entries, each with a key; or the list and the line that is none."""
    from fox1.pipeline.filter.exclude import KINDS, read_lists

    path = folder / case.name
    path.write_bytes(case.data)
    try:
        found = read_lists([str(path)], ["web"], 0)
    except Exception as error:
        return refused(error, str(path))
    if found != sorted(found) or any(not 0 <= e.kind < len(KINDS) or not 0 <= e.key < 1 << 64 for e in found):
        raise Fault(f"entries {found}")
    return "read"


def make_rules(rng: random.Random) -> Case:
    lines = [rng.choice(RULES) + (text_of(rng, 2) if rng.random() < 0.3 else "") for _ in range(rng.randrange(8))]
    data = "\n".join(lines).encode()
    return Case("blocked.txt", data if rng.random() < 0.5 else damage(data, rng))


def block(case: Case, folder: Path) -> str:
    """Rules that decide any URL, or one line that names what is no rule."""
    from fox1.pipeline.signals.urls import blocked, normalised_hashes, read_list

    try:
        rules = read_list(case.data)
    except UnicodeDecodeError:
        return "refused"
    except Exception as error:
        return refused(error, "")
    text = case.data.decode()
    urls = pa.array(
        ["http://x.org/", "https://a.b/c?word", "", *text.splitlines(), text.replace("\n", "/")], pa.string()
    )
    if len(blocked(urls, rules)) != len(urls) or len(normalised_hashes(urls)) != len(urls):
        raise Fault("a URL without a verdict")
    return "read"


def make_items(rng: random.Random) -> Case:
    name = rng.choice(sorted(ITEMS))
    item = ITEMS[name]
    data = (item if isinstance(item, str) else json.dumps(item) + "\n").encode() * 2
    return Case(name, data if rng.random() < 0.2 else damage(data, rng))


def read_items(case: Case, folder: Path) -> str:
    """Items of text, or one line that names benchmark, file and row; and an index of what was read."""
    from fox1.pipeline.prepare import benchmarks
    from fox1.pipeline.prepare.contamination import ContaminationSettings, build

    path = folder / case.name
    path.write_bytes(case.data)
    settings = benchmarks.BenchmarkSettings("fuzz", case.name.partition(".")[0], (str(path),))
    try:
        items = list(benchmarks.read_items(settings))
    except Exception as error:
        return refused(error, "fuzz")
    build(items, ContaminationSettings())
    return "read" if items else "empty"


@functools.cache
def model() -> bytes:
    """A small tokenizer model with the pieces of the chat template."""
    from fox1.tokenize.model import TokenizerSettings, train

    text = ["What does the fox say?\n\n  The fox says nothing; it is user and model 123.\n"] * 200
    return train((f"{t}{i}" for i, t in enumerate(text)), TokenizerSettings(vocab_size=370))


def make_model(rng: random.Random) -> Case:
    data = model()
    # The settings lie behind the pieces: half of the damage is done there.
    tail = len(data) - 2000
    return Case("x.model", data[:tail] + damage(data[tail:], rng) if rng.random() < 0.5 else damage(data, rng))


def use_model(case: Case, folder: Path) -> str:
    """A model that encodes and decodes whatever it is asked, or one line that names it."""
    from fox1.tokenize.encode import Encoder
    from fox1.tokenize.model import check_specials, count_pieces, load, specials

    path = folder / case.name
    path.write_bytes(case.data)
    texts = ["The fox says\n\n 123 \u65e5\u672c <eos>", "", "\U0001f600" * 50, "x" * 5000]
    try:
        processor = load(path)
        count_pieces(processor)
        specials(processor)
        check_specials(processor, ())
        encoder = Encoder(path, ())
        encoded = encoder.encode(pa.array(texts, pa.large_string()))
    except Exception as error:
        return refused(error, str(path), "tokenizer")
    if len(encoded.ids) and not 0 <= encoded.ids.min() <= encoded.ids.max() < encoder.vocab_size:
        raise Fault("ids that the model does not have")
    encoder.byte_bounds(encoder.decode(encoded.ids.tolist()), encoded.ids.tolist())
    return "read"
