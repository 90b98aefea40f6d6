"""What a model is calibrated with: from texts to the first layer's inputs."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from ..model.model import EncoderModel, ModelError
from ..model.tokenizer import encode
from .quantise import MINIMUM_SEQUENCES

__all__ = ["calibration_sequences", "check_texts"]

_MOST_TEXTS = 400  # of more, an even sample: all that they become is in memory at once
_FRAGMENTS = 4  # of each text, and more when there are few texts
_FRAGMENT_TOKENS = 6
_JOINED = 8
_LONGEST_JOINED = 2048  # tokens: what attention costs grows with the square
_SINGLES = 160
_REPEATED, _TIMES = 48, (2, 3, 4, 6, 9, 16, 32, 80)
_MIXTURES, _MIXED = 24, (4, 8, 16, 32)
_SPECIAL_TIMES = (2, 6, 30)
_MARKS, _MARK_TIMES = 64, (3, 10, 30, 60)

Ids = list[int]


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no sequence of texts, or an empty one.

    Raises
    ------
    ModelError
        Naming what was given instead.
    """
    if isinstance(texts, str):
        raise ModelError(f"calibration needs a sequence of texts, not the one text {texts[:40]!r}")
    if not isinstance(texts, Sequence):
        raise ModelError(f"calibration needs a sequence of texts, not {type(texts).__name__}")
    if not texts:
        raise ModelError("calibration needs at least 1 text, not 0")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ModelError(f"a text to calibrate with must be a string, and number {index} is {type(text).__name__}")


def calibration_sequences(model: EncoderModel, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """The layers' inputs, float32 [L, d] each, to calibrate with; all fit the model's positions.

    Every text (of more than 400, an even sample), with the model's prompt, in pieces if it is too long; fragments of it
    of one to six tokens, since very short texts drive many channels further than any sentence does; texts joined to
    sequences of up to the model's length; and what no text holds: single tokens, one token many times, and random ones,
    of the whole vocabulary.

    Raises
    ------
    ModelError
        When the model takes no text, there is none, or one is no text.
    """
    check_texts(texts)
    if model.tokenizer is None:
        raise ModelError(f"the model {model.name} has no tokenizer, so it takes no text")
    if len(texts) > _MOST_TEXTS:
        texts = [texts[index * len(texts) // _MOST_TEXTS] for index in range(_MOST_TEXTS)]
    front, back = _special_tokens(model)
    room = max(model.max_tokens - len(front) - len(back), 0)
    bodies = [encode(model.tokenizer, model.prompt + text, special=False) for text in texts]
    chosen = [piece for body in bodies for piece in _pieces(body, room)]
    fragments = max(_FRAGMENTS, -(-MINIMUM_SEQUENCES // len(texts)) - 1)
    for index, body in enumerate(bodies):
        chosen += _fragments(body, index, fragments)
    chosen += _joined([token for body in bodies for token in body], room)
    chosen += _probes(model)
    whole = [(front + ids[:room] + back)[: model.max_tokens] for ids in chosen]
    return [model.embed(np.array(ids)) for ids in whole if ids]


def _special_tokens(model: EncoderModel) -> tuple[Ids, Ids]:
    """The tokens that the tokenizer puts before and behind a text."""
    vocabulary = sorted(model.tokenizer.get_vocab(), key=len)  # type: ignore[union-attr]
    for word in vocabulary[-1:] + vocabulary:
        encoding = model.tokenizer.encode(word)  # type: ignore[union-attr]
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if own:
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
    return [], []


def _pieces(body: Ids, room: int) -> Iterator[Ids]:
    """A text's tokens, cut where there is no room for more."""
    for at in range(0, max(len(body), 1), max(room, 1)):
        yield body[at : at + room]


def _fragments(body: Ids, index: int, count: int) -> Iterator[Ids]:
    """Short pieces of a text, of lengths and places that differ from text to text."""
    for turn in range(count):
        length = min(1 + (index + turn) % _FRAGMENT_TOKENS, len(body))
        start = (7 * index + 13 * turn) % (len(body) - length + 1)
        yield body[start : start + length]


def _joined(tokens: Ids, room: int) -> Iterator[Ids]:
    """All texts one behind the other, again and again, cut to sequences from a quarter of the room to all of it."""
    room = min(room, _LONGEST_JOINED)
    endless = cycle(tokens)
    for index in range(_JOINED if tokens else 0):
        yield list(islice(endless, room // 4 + (room - room // 4) * index // (_JOINED - 1)))


def _probes(model: EncoderModel) -> Iterator[Ids]:
    """What no text holds: single tokens, one many times, and mixtures, spread evenly over the whole vocabulary; and
    special tokens and punctuation many times."""
    tokenizer, tables = model.tokenizer, model.embeddings
    words = {token: word for word, token in tokenizer.get_vocab().items()}  # type: ignore[union-attr]
    known = sorted(token for token in words if tables is None or token < len(tables.word))
    # Steps of the golden section come near every place soon.
    spread = (known[(index * 40503 % 65536) * len(known) // 65536] for index in range(1, 65536))
    yield from ([token] for token in islice(spread, _SINGLES))
    for index in range(_REPEATED):
        yield [next(spread)] * _TIMES[index % len(_TIMES)]
    for index in range(_MIXTURES):
        yield list(islice(spread, _MIXED[index % len(_MIXED)]))
    for token in sorted(tokenizer.get_added_tokens_decoder()):  # type: ignore[union-attr]
        for times in _SPECIAL_TIMES:
            yield [token] * times
    marks = [token for token in known if len(words[token]) == 1 and not words[token].isalnum()]
    for index, token in enumerate(marks[:_MARKS]):
        yield [token] * _MARK_TIMES[index % len(_MARK_TIMES)]
