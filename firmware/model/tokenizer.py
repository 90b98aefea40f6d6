"""tokenizer.json, and the files beside it that change what it does."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence

from .files import ModelError, is_there, read_optional, read_text

__all__ = ["TextReader", "cutting", "encode", "prompt_tokens", "read_tokenizer"]

_OTHERS = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_UNLIMITED = 10**6  # a model_max_length from here on means none

#: Settings of BERT's own tokenizer in tokenizer_config.json, what tokenizer.json's normalizer calls them, and what the
#: library transformers takes where the former has none.
_SETTINGS = {"do_lower_case": ("lowercase", True), "strip_accents": ("strip_accents", None),
             "tokenize_chinese_chars": ("handle_chinese_chars", True)}
_BERT_CLASSES = (None, "BertTokenizer", "BertTokenizerFast")


@dataclass(frozen=True)
class TextReader:
    """A tokenizer that neither cuts nor pads, the longest text that its folder states, the side from which a longer
    one loses tokens, and what was decided between files."""

    tokenizer: Tokenizer
    max_length: int | None
    side: str
    notes: tuple[str, ...]


def read_tokenizer(folder: Path, *, lower_case: bool = False) -> TextReader:
    """Read the tokenizer of ``folder``; with ``lower_case`` it makes every text lower case first.

    Raises
    ------
    ModelError
        When there is no tokenizer.json, or it is damaged, or disagrees with another file in a way that isn't known.
    """
    tokenizer = _read(folder / "tokenizer.json")
    _check_template(_state(tokenizer.post_processor), folder / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = read_optional(folder / "tokenizer_config.json")
    if settings.get("auto_map") or settings.get("tokenizer_class") == "BertJapaneseTokenizer":
        key = "auto_map" if settings.get("auto_map") else "tokenizer_class"
        raise ModelError(f"tokenizer_config.json asks for a tokenizer in Python, {key} = {settings[key]!r}, and only "
                         f"tokenizer.json is read ({folder / 'tokenizer_config.json'})")
    _check_tokens(tokenizer, folder, settings)
    notes = _apply(tokenizer, settings, folder)
    if lower_case and not _lowers(_state(tokenizer.normalizer)):
        tokenizer.normalizer = Sequence([Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    length = settings.get("model_max_length")
    if length is not None and (isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1):
        raise ModelError(f"model_max_length must be a positive integer, not {length!r} "
                         f"({folder / 'tokenizer_config.json'})")
    side = settings.get("truncation_side", "right")
    if side not in ("left", "right"):
        raise ModelError(f"truncation_side must be 'left' or 'right', not {side!r} "
                         f"({folder / 'tokenizer_config.json'})")
    return TextReader(tokenizer, None if length is None or length >= _UNLIMITED else int(length), side, notes)


def encode(tokenizer: Tokenizer, text: str, *, special: bool = True) -> list[int]:
    """The ids of a text, with the special tokens or without.

    Raises
    ------
    ModelError
        When the tokenizer can't take the text, or gives it another token type than that of a single text.
    """
    try:
        encoding = tokenizer.encode(text, add_special_tokens=special)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"the tokenizer can't take the text {text!r}: {error}") from error
    if any(encoding.type_ids):
        raise ModelError(f"the tokenizer must give every token of a text the type 0, not {max(encoding.type_ids)}")
    return encoding.ids


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> int:
    """How many tokens a prompt has, with the special ones before it and without one after it."""
    if not prompt:
        return 0
    mask = tokenizer.encode(prompt).special_tokens_mask
    return len(mask) - sum(mask[-1:])


def cutting(tokenizer: Tokenizer, length: int, side: str) -> Tokenizer:
    """A copy that cuts texts to ``length`` tokens, with the special ones, losing those on ``side``."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.enable_truncation(length, direction=side)
    return copy


def _read(path: Path) -> Tokenizer:
    if not is_there(path):
        found = [name for name in _OTHERS if (path.parent / name).exists()]
        if found:
            raise ModelError(f"the tokenizer must be in tokenizer.json, and {str(path.parent)!r} has only "
                             f"{', '.join(found)}: save_pretrained of a fast tokenizer of the library transformers "
                             "writes it")
    text = read_text(path, "a tokenizer")
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path.name} must be a tokenizer: {error} ({path})") from error


def _check_template(state: dict[str, Any], path: Path) -> None:
    """Special tokens around a text must have their ids, or the library panics."""
    for part in state.get("processors", ()):
        _check_template(part, path)
    for piece in state.get("single", ()) if state.get("type") == "TemplateProcessing" else ():
        name = piece.get("SpecialToken", {}).get("id")
        if name is not None and name not in state["special_tokens"]:
            raise ModelError(f"tokenizer.json must have an id for the special token {name!r} of its post_processor "
                             f"({path})")


def _stated_tokens(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Tokens beyond the roles of BERT's own that files beside tokenizer.json name: file, token, id if it has one."""
    for token, number in read_optional(folder / "added_tokens.json").items():
        yield "added_tokens.json", token, number
    decoder = settings.get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        yield "tokenizer_config.json", _content(token), int(number) if str(number).isdecimal() else None
    for name, table in (("tokenizer_config.json", settings),
                        ("special_tokens_map.json", read_optional(folder / "special_tokens_map.json"))):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            more = table.get(key) or []
            if not isinstance(more, list | dict):
                raise ModelError(f"{key} must be a list or an object, not {more!r} ({folder / name})")
            for token in more.values() if isinstance(more, dict) else more:
                yield name, _content(token), None


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _check_tokens(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> None:
    for file, token, number in _stated_tokens(folder, settings):
        own = tokenizer.token_to_id(token)
        if own is None or (number is not None and own != number):
            what = f"with the id {number}, " if number is not None else ""
            has = "doesn't have" if own is None else f"has with the id {own}"
            raise ModelError(f"{file} names the token {token!r}, {what}which tokenizer.json {has} ({folder / file})")


def _apply(tokenizer: Tokenizer, settings: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Where both state a setting, the library transformers takes that of tokenizer_config.json."""
    state = _state(tokenizer.normalizer)
    if settings.get("tokenizer_class") not in _BERT_CLASSES or state.pop("type", None) != "BertNormalizer":
        return ()
    notes = []
    for key, (name, default) in _SETTINGS.items():
        value = settings.get(key, default)
        if not isinstance(value, bool) and not (value is None and key == "strip_accents"):
            raise ModelError(f"{key} must be true or false, not {value!r} ({folder / 'tokenizer_config.json'})")
        if value == state[name]:
            continue
        if key in settings:
            notes.append(f"{key} is {value} in tokenizer_config.json and {state[name]} in tokenizer.json: the former "
                         "is taken")
            state[name] = value
        else:
            notes.append(f"{key} is {state[name]} in tokenizer.json, which is taken: tokenizer_config.json doesn't "
                         f"have it, and the library transformers would take {value}")
    if notes:
        tokenizer.normalizer = BertNormalizer(**state)
    return tuple(notes)


def _state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json has it."""
    return {} if part is None else json.loads(part.__getstate__())


def _lowers(state: dict[str, Any]) -> bool:
    """Whether a normalizer, or one of a sequence, makes lower case."""
    return (state.get("type") == "Lowercase" or bool(state.get("lowercase"))
            or any(_lowers(part) for part in state.get("normalizers", ())))
