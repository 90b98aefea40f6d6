"""Groups: consecutive sentences that go through all layers together."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.geometry import Geometry

__all__ = ["Group", "Sentence", "group_sentences"]


@dataclass(frozen=True)
class Sentence:
    """A sentence in its group.

    Its tokens are rows ``start`` to ``start + length - 1``. Attention works on a window of whole words of
    tokens, from row ``window`` on, ``window_words`` words of ``rows`` keys; those of other sentences are
    masked. ``mask`` is the first word of its mask in the group's.
    """

    index: int
    start: int
    length: int
    window: int
    window_words: int
    mask: int
    mask_words: int


@dataclass(frozen=True)
class Group:
    """Sentences that go through all layers together; ``row`` is the first one's first row in the whole
    batch."""

    row: int
    sentences: tuple[Sentence, ...]
    tokens: int
    mask_words: int
    mask_row: int

    @classmethod
    def of(cls, geometry: Geometry, lengths: Sequence[int], first: int, row: int, mask_row: int) -> "Group":
        """The group of ``lengths``, sentences ``first`` and following of the batch."""
        sentences, start, mask = [], 0, 0
        for i, length in enumerate(lengths):
            window = start // geometry.beat_bytes * geometry.beat_bytes
            words = geometry.words(start + length - window)
            mask_words = geometry.groups(words)
            sentences.append(Sentence(first + i, start, length, window, words, mask, mask_words))
            start, mask = start + length, mask + mask_words
        return cls(row, tuple(sentences), start, mask, mask_row)


def group_sentences(geometry: Geometry, lengths: Sequence[int], target: int) -> list[Group]:
    """Put consecutive sentences together, up to ``target`` tokens a group."""
    groups: list[Group] = []
    first = row = mask_row = 0
    while first < len(lengths):
        end, tokens = first + 1, lengths[first]
        while end < len(lengths) and tokens + lengths[end] <= target:
            tokens += lengths[end]
            end += 1
        groups.append(Group.of(geometry, lengths[first:end], first, row, mask_row))
        first, row = end, row + tokens
        mask_row += geometry.row_bytes(groups[-1].mask_words) // geometry.config.word_bytes
    return groups
