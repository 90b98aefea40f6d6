"""Attention, software-pipelined over its units (a head of a block of rows of a sentence).

Order of the matmul engine: scores of unit u + 1, then weighted values of unit u. The scores of successive
units lie in alternating accumulator halves, the weighted values of unit u in the half where the softmax of
unit u + 1 does not work, at its end. So the softmax has the time of two products.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...hdl.isa import Function
from .groups import Sentence
from .linear import LinearScheduler
from .memory import Region
from .planner import Plan
from .recorder import DramArray, View
from .tensors import Tensor

__all__ = ["AttentionScheduler", "AttentionTensors"]


@dataclass(eq=False)
class AttentionTensors:
    """Operands and result; ``numerators`` are two regions that take turns, ``mask`` is a single row, ``kept`` the
    numerators' home by sentence (rows: head, then query), when they are kept."""

    query: Tensor
    key: Tensor
    value: Tensor
    context: Tensor
    numerators: list[Region]
    mask: Tensor
    kept: dict[int, DramArray]


@dataclass(frozen=True, slots=True)
class _Unit:
    sentence: Sentence
    head: int
    first: int  # row in the group
    end: int
    parity: int

    @property
    def rows(self) -> int:
        return self.end - self.first


class AttentionScheduler:
    """Records the attention of one layer: :meth:`begin`, whatever should hide the first softmax,
    :meth:`finish`."""

    def __init__(self, linear: LinearScheduler, plan: Plan, tensors: AttentionTensors):
        self._linear = linear
        self._g = linear.geometry
        self._config = linear.config
        self._recorder = linear.recorder
        self._plan = plan
        self._tensors = tensors
        self._units: list[_Unit] = []
        for sentence in plan.group.sentences:
            for head in range(self._g.heads):
                for first in range(sentence.start, sentence.start + sentence.length, plan.choice.unit):
                    end = min(first + plan.choice.unit, sentence.start + sentence.length)
                    self._units.append(_Unit(sentence, head, first, end, len(self._units) % 2))

    def begin(self) -> None:
        """The first unit's scores and softmax."""
        self._softmax(self._units[0], self._scores(self._units[0]))

    def finish(self) -> None:
        """Everything else."""
        pending: Callable[[], None] | None = None
        for index, unit in enumerate(self._units):
            if index + 1 < len(self._units):
                following = self._units[index + 1]
                half = self._scores(following)
                if pending is not None:
                    pending()
                self._softmax(following, half)
                values_half = half ^ self._config.half_words
            else:
                if pending is not None:
                    pending()
                values_half = self._linear.next_half() ^ self._config.half_words
                self._linear.next_half()
            pending = self._values(unit, values_half)
        assert pending is not None
        pending()

    def _comment(self, unit: _Unit, what: str) -> str:
        return (
            f"{self._linear.label} {what}, sentence {unit.sentence.index} head {unit.head} row {unit.first}"
        )

    def _numerators(self, unit: _Unit) -> View:
        return View(self._tensors.numerators[unit.parity], 0, unit.sentence.window_words)

    def _row(self, unit: _Unit) -> int:
        return unit.parity * self._plan.choice.unit

    def _scores(self, unit: _Unit) -> int:
        """Scores of ``unit``; returns where the accumulator half starts."""
        g, sentence = self._g, unit.sentence
        tiles = g.tiles(sentence.window_words)
        half = self._linear.next_half()
        chunk = tiles if self._tensors.key.region is not None else self._plan.choice.key_tiles
        piece = g.piece_words(g.head_words) if "heads" in self._plan.choice.streamed else g.head_words
        for part in range(0, g.head_words, piece):
            word, words = unit.head * g.head_words + part, min(piece, g.head_words - part)
            query = self._tensors.query.read(unit.first, unit.end, word, words)
            for tile in range(0, tiles, chunk):
                first, count = sentence.window + tile * self._config.cols, min(chunk, tiles - tile)
                last = min(self._plan.group.tokens, first + count * self._config.cols)
                room = count * self._config.cols * words
                key = self._tensors.key.read(min(first, last - 1), last, word, words, room)
                self._recorder.matmul(
                    query,
                    key,
                    half + tile * unit.rows,
                    unit.rows,
                    count,
                    words,
                    accumulate=part > 0,
                    comment=self._comment(unit, "scores"),
                )
        return half

    def _softmax(self, unit: _Unit, half: int) -> None:
        g, sentence = self._g, unit.sentence
        layer = self._linear.layer
        assert layer is not None
        mask = self._tensors.mask.read(0, 1, 0, self._tensors.mask.words).at(0, sentence.mask)
        groups, row = g.groups(sentence.window_words), self._row(unit)
        self._recorder.vector(
            Function.ROW_MAXIMUM,
            half,
            unit.rows,
            groups,
            parameters=mask,
            row=row,
            comment=self._comment(unit, "maximum"),
        )
        self._recorder.vector(
            Function.EXPONENTIAL,
            half,
            unit.rows,
            groups,
            parameters=mask,
            destination=self._numerators(unit),
            row=row,
            multiplier=layer.score.multiplier,
            shift=layer.score.shift,
            comment=self._comment(unit, "numerators"),
        )
        home = self._tensors.kept.get(sentence.index)
        if home is not None:
            first = unit.head * sentence.length + unit.first - sentence.start
            self._recorder.store(
                self._numerators(unit),
                home,
                (first, first + unit.rows),
                0,
                sentence.window_words,
                self._comment(unit, "numerators"),
            )

    def _values(self, unit: _Unit, half: int) -> Callable[[], None]:
        """Weighted values of ``unit``; returns what records their epilogue, or that of the last part of a head."""
        if "heads" not in self._plan.choice.streamed:
            return self._part_of_values(unit, half, 0, self._g.head_words)
        *parts, last = range(0, self._g.head_words, self._g.tile_step_words)
        for part in parts:
            self._part_of_values(unit, half, part, self._g.tile_step_words)()
        return self._part_of_values(unit, half, last, self._g.head_words - last)

    def _part_of_values(self, unit: _Unit, half: int, first: int, words: int) -> Callable[[], None]:
        """Weighted values of ``unit`` for ``words`` words of its head, from word ``first`` on; returns what records
        their epilogue."""
        g, sentence = self._g, unit.sentence
        tiles, word = g.tiles(words), unit.head * g.head_words + first
        channel = word * self._config.rows
        accumulator = half + self._config.half_words - tiles * unit.rows
        total = sentence.window_words
        chunk = total if self._tensors.value.region is not None else self._plan.choice.value_words
        chunk = min(chunk, self._config.max_k // self._config.rows)
        for part in range(0, total, chunk):
            count = min(chunk, total - part)
            value = self._tensors.value.read(
                channel, channel + tiles * self._config.cols, g.words(sentence.window) + part, count
            )
            self._recorder.matmul(
                self._numerators(unit).at(0, part),
                value,
                accumulator,
                unit.rows,
                tiles,
                count,
                accumulate=part > 0,
                a_unsigned=True,
                comment=self._comment(unit, "values"),
            )

        def epilogue() -> None:
            target = self._tensors.context.target(unit.first, unit.end, word, words)
            self._recorder.vector(
                Function.ATTENTION_OUTPUT,
                accumulator,
                unit.rows,
                g.groups(words),
                parameters=self._linear.parameters("context", word, words),
                destination=target,
                row=self._row(unit),
                comment=self._comment(unit, "context"),
            )
            self._tensors.context.written(target, unit.first, unit.end, word, words)

        return epilogue
