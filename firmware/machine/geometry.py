"""How an encoder's dimensions fall into words, tiles and groups of a configuration."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import gcd

from ...hdl.config import AcceleratorConfig
from ...sim.golden.parameters import QuantisedEncoder

__all__ = ["CompileError", "Geometry", "ceil_div", "even_parts"]


class CompileError(ValueError):
    """An encoder or a batch can't run on a configuration. One sentence: the value and the rule."""


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def even_parts(total: int, most: int) -> list[tuple[int, int]]:
    """First and end of the fewest parts of at most ``most`` that make up ``total``: equal, or the first ones larger by
    one."""
    count = ceil_div(total, most)
    ends = [index * (total // count) + min(index, total % count) for index in range(count + 1)]
    return list(pairwise(ends))


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model on a configuration; "words" are scratchpad words of ``rows`` bytes.

    A row of the residual stream is ``hidden_words`` wide. Each head starts at a word of its own, so that a
    row of queries, keys or context is ``heads * head_words`` wide. What pads is zero. Of the transposed values each
    channel is a row: these are not padded.
    """

    config: AcceleratorConfig
    heads: int
    hidden: int
    ffn: int
    layers: int

    @classmethod
    def of(cls, config: AcceleratorConfig, encoder: QuantisedEncoder) -> "Geometry":
        """The geometry of ``encoder``; raises :class:`CompileError` when a limit of ``config`` is
        exceeded."""
        geometry = cls(config, encoder.heads, encoder.hidden, encoder.ffn, len(encoder.layers))
        geometry.check()
        return geometry

    def check(self) -> None:
        """Raise :class:`CompileError` when the model does not fit the limits of the configuration."""
        if self.hidden % self.heads:
            raise CompileError(
                f"the hidden width must be a multiple of the {self.heads} heads, not {self.hidden}"
            )
        if self.hidden > self.config.max_n:
            raise CompileError(
                f"the hidden width must be at most max_n = {self.config.max_n}, not {self.hidden}"
            )
        longest = max(self.hidden_words, self.ffn_words) * self.config.rows
        if longest > self.config.max_k:
            raise CompileError(
                f"the longest reduction must be at most max_k = {self.config.max_k}, not {longest}"
            )

    @property
    def head(self) -> int:
        """True width of a head."""
        return self.hidden // self.heads

    @property
    def beat_bytes(self) -> int:
        """What is a multiple of this can be moved alone: whole words and whole beats of the bus."""
        return max(self.config.rows, self.config.bus_bytes)

    @cached_property
    def head_words(self) -> int:
        """Words of a head in a row of queries, keys or context; whole beats, so that it can be moved
        alone."""
        return ceil_div(self.head, self.beat_bytes) * self.beat_bytes // self.config.rows

    @cached_property
    def context_words(self) -> int:
        """Words of all heads."""
        return self.heads * self.head_words

    @cached_property
    def hidden_words(self) -> int:
        """Words of a row of the residual stream."""
        return ceil_div(self.hidden, self.config.rows)

    @cached_property
    def ffn_words(self) -> int:
        """Words of a row of the FFN's hidden layer."""
        return ceil_div(self.ffn, self.config.rows)

    @cached_property
    def value_channels(self) -> int:
        """Rows of the transposed values: every head's, one after the other without padding, and what the last head's
        tiles read beyond; a multiple of ``cols``."""
        last = (self.heads - 1) * self.head
        return (
            ceil_div(last + self.tiles(self.head_words) * self.config.cols, self.config.cols)
            * self.config.cols
        )

    @cached_property
    def tile_step(self) -> int:
        """Column tiles that together fill whole words and whole beats."""
        return max(1, self.beat_bytes // self.config.cols)

    @property
    def tile_step_words(self) -> int:
        """Words of results that :attr:`tile_step` column tiles fill."""
        return ceil_div(self.tile_step * self.config.cols, self.config.rows)

    @property
    def weight_step(self) -> int:
        """A row of weights has a multiple of as many words, so that a tile is a multiple of the bus width: only arrays
        of 4 x 4 need padding for that."""
        return max(1, self.config.bus_bytes // (self.config.rows * self.config.cols))

    def aligned_rows(self, words: int) -> int:
        """Of rows of ``words`` words, one after the other, every how many begins at a whole beat."""
        return self.config.bus_bytes // gcd(self.config.bus_bytes, words * self.config.word_bytes)

    def piece_words(self, words: int) -> int:
        """Words of the pieces of a reduction of ``words`` words, so that ``cols`` rows of a piece take little of the
        scratchpad, and no piece is longer than ``max_k`` (the padding of heads may be). Where there are several, they
        begin at whole beats of a row."""
        config = self.config
        beat = max(self.weight_step, config.bus_bytes // config.rows)
        limit = min(config.scratchpad_words // 24 // config.cols, config.max_k // config.rows)
        pieces = ceil_div(words, max(beat, limit))
        return words if pieces == 1 else ceil_div(ceil_div(words, pieces), beat) * beat

    def tiles(self, words: int) -> int:
        """Column tiles that cover ``words`` words of results."""
        return ceil_div(words * self.config.rows, self.config.cols)

    def groups(self, words: int) -> int:
        """Groups of ``lanes`` columns in ``words`` words."""
        return words * self.config.rows // self.config.lanes

    def words(self, elements: int) -> int:
        """Words that cover ``elements`` bytes."""
        return ceil_div(elements, self.config.rows)

    def row_bytes(self, words: int) -> int:
        """Bytes from one row of ``words`` words to the next in DRAM: a multiple of the bus width."""
        return ceil_div(words * self.config.rows, self.config.bus_bytes) * self.config.bus_bytes
