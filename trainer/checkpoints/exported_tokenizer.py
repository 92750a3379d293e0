"""The tokenizer of an exported model: `tokenizer.json`, its config with the chat template, and the ids that end a text.

`tokenizer.json` is made from the SentencePiece model and compared with it before anything is written.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...storage.wording import printable
from .tokenizer_facts import TokenizerFacts

if TYPE_CHECKING:
    import sentencepiece

MOST_TEXTS = 2000
"""Documents of a run that the comparison reads."""


def tokenizer_files(model: Path, ids: TokenizerFacts, warn: Callable[[str], None]) -> dict[str, Any]:
    """Name -> contents of the JSON files that make `AutoTokenizer` give the ids that training saw.

    Args:
        model: the SentencePiece model; if it lies in a run (`RUN/prepare/`), the comparison reads text of that run as well.
        warn: gets a line where something could not be compared.

    Raises:
        ValueError: `tokenizers` gives other ids for a text, or cannot express the model.
    """
    from ...tokenize.fast_tokenizer import fast_tokenizer
    from ...tokenize.model import load, read_model
    from ...tokenize.model_file import parse_model

    processor = load(model)
    chat = ids.template or (jinja_template(ids.chat, ids.add_bos) if ids.chat else "")
    try:
        fast = fast_tokenizer(parse_model(read_model(model)), ids.bos if ids.add_bos else None)
        _compare(fast, processor, model, not chat, warn)
    except ValueError as error:
        raise ValueError(f"{model} cannot be exported for `transformers`: {error}") from None
    pieces = {n: processor.id_to_piece(i) for n, i in (("pad", ids.pad), ("bos", ids.bos), ("eos", ids.eos))}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": ids.add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        # A rendered conversation begins with the literal of bos; other text has no literals that mean anything.
        "split_special_tokens": not chat,
        **{f"{name}_token": piece for name, piece in pieces.items()},
        "unk_token": processor.id_to_piece(processor.unk_id()),
    }
    return {"tokenizer.json": fast, "tokenizer_config.json": config | ({"chat_template": chat} if chat else {})}


def _compare(
    fast: dict[str, Any],
    processor: sentencepiece.SentencePieceProcessor,
    model: Path,
    split_special: bool,
    warn: Callable[[str], None],
) -> None:
    from ...tokenize.compare import first_difference, made_up_texts

    texts = itertools.chain(made_up_texts(processor), _texts_of_run(model.parent.parent, processor))
    try:
        _, found = first_difference(fast, processor, texts, split_special)
    except ImportError:
        warn(
            "tokenizer.json was not compared with the SentencePiece model, because `tokenizers` is not installed; "
            "pip install tokenizers, and export again to have it compared"
        )
        return
    if found:
        raise ValueError(
            f"`tokenizers` encodes {printable(repr(found.text[:80]))} as {found.theirs[:12]}, and SentencePiece, which the "
            f"model was trained with, as {found.ours[:12]}; use the checkpoint with `fox1 generate` and `fox1 eval`"
        )


def _texts_of_run(run: Path, processor: sentencepiece.SentencePieceProcessor) -> Iterator[str]:
    """Held-out documents of a run; none where the folder is no run, or has none."""
    if not (run / "recipe.yaml").exists() or not (run / "held_out" / "fox1.json").exists():
        return
    from ..data.order import open_set

    data = open_set(run, "held_out", 0)
    if data.info.vocab_size != processor.vocab_size():
        return
    left = MOST_TEXTS
    for unit in range(data.units):
        stream = data.stream(unit, 1)
        for begin, end, padding in zip([0, *stream.ends[:-1]], stream.ends, stream.padding, strict=True):
            ids = [i for i in stream.tokens[begin:end].tolist() if not processor.is_control(i)]
            if not padding and left:
                left -= 1
                yield processor.decode(ids)


def end_ids(processor: sentencepiece.SentencePieceProcessor, ids: TokenizerFacts) -> list[int]:
    """The ids that end what a model writes: eos, and the piece that ends a turn in the chat template."""
    from ...tokenize.chat import closing_pieces

    turns = [i for piece in closing_pieces(ids.chat) if (i := processor.piece_to_id(piece)) != processor.unk_id()]
    return list(dict.fromkeys([ids.eos, *ids.stops, *turns[:1]]))


def jinja_template(chat: tuple[tuple[str, str, str], ...], add_bos: bool = True) -> str:
    """The chat template in the form that `transformers` renders; it refuses a role that it does not have."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    branches = "".join(
        f"{{%- {'if' if k == 0 else 'elif'} message['role'] == {quoted(role)} -%}}"
        f"{{{{- {quoted(before)} + message['content'] + {quoted(after)} -}}}}"
        for k, (role, before, after) in enumerate(chat)
    )
    answer = next((before for role, before, _ in chat if role == "assistant"), "")
    roles = ", ".join(role for role, _, _ in chat)
    return (
        ("{{- bos_token -}}" if add_bos else "")
        + "{%- for message in messages -%}"
        + branches
        + "{%- else -%}{{- raise_exception("
        + quoted("the chat template has no role ")
        + " ~ message['role'] ~ "
        + quoted(f"; its roles are {roles}")
        + ") -}}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- "
        + quoted(answer)
        + " -}}{%- endif -%}"
    )


def imported_template(folder: Path, config: dict[str, Any]) -> str:
    """The chat template of an exported folder, in a file of its own or in its tokenizer config; empty: it has none.

    Raises:
        ValueError: it is no text.
    """
    from ...storage.reading import read_bounded

    if (folder / "chat_template.jinja").exists():
        return read_bounded(folder / "chat_template.jinja", 1 << 20).decode()
    found = config.get("chat_template") or ""
    if isinstance(found, list):
        # Named templates: the one that is used unless another is asked for.
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default") or ""
    if not isinstance(found, str):
        raise ValueError(f"{folder}/tokenizer_config.json: chat_template is no text")
    return found
