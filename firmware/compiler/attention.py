"""Attention, software-pipelined over its units (a head of a block of rows of a sentence).

Order of the matmul engine: scores of unit u + 1, then weighted values of unit u. The scores of successive
units lie in alternating accumulator halves, the weighted values of unit u in the half where the softmax of
unit u + 1 does not work, at its end. So the softmax has the time of two products.

Where a plan cuts the keys into chunks, an accumulator half holds the scores of a unit with one chunk only, and units
can be as high as the array needs. The scores are computed twice: once for the maxima of the rows, and once for the
numerators, whose weighted values are summed up in the other half.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

from ...hdl.isa import Function
from ..machine.geometry import ceil_div, even_parts
from ..machine.memory import Region
from .groups import Sentence
from .linear import LinearScheduler
from .planner import Plan, value_tiles
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
    index: int

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
        self._beat_words = self._g.beat_bytes // self._config.rows
        # Of how many units the row table holds statistics.
        self._statistics = 3 if plan.choice.chunk_tiles and 3 * plan.choice.unit <= self._config.row_entries else 2
        self._units: list[_Unit] = []
        for sentence in plan.group.sentences:
            for head in range(self._g.heads):
                for first, end in even_parts(sentence.length, plan.choice.unit):
                    rows = sentence.start + first, sentence.start + end
                    self._units.append(_Unit(sentence, head, *rows, len(self._units)))

    def begin(self) -> None:
        """The first unit's scores and softmax; nothing where keys come in chunks."""
        if self._plan.choice.chunk_tiles:
            return
        half = self._linear.next_half()
        self._scores(self._units[0], half)
        self._softmax(self._units[0], half)

    def finish(self) -> None:
        """Everything else."""
        if self._plan.choice.chunk_tiles:
            self._in_chunks()
            return
        pending: Callable[[], None] | None = None
        for index, unit in enumerate(self._units):
            if index + 1 < len(self._units):
                following = self._units[index + 1]
                half = self._linear.next_half()
                self._scores(following, half)
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

    def interleave(self, project: Callable[[int, int, int, int], Callable[[], None]]) -> None:
        """Everything, together with the projection of the values: ``project(head, first tile, tiles, accumulator)``
        records the products of a head's values for the tokens of some column tiles, whose accumulators start at
        ``accumulator``, and returns what records their epilogue. Units are a head of a whole sentence.

        In a phase the array makes the scores of a unit, the values of the unit before, and the weighted values of the
        one before that, all in one half; then the vector engine works on these while the array makes those of the next
        phase in the other half. So whichever has more to do never waits for the other, but at the ends."""
        units = sorted(self._units, key=lambda unit: (unit.head, unit.first))
        units = [replace(unit, index=index) for index, unit in enumerate(units)]
        done = 0  # tiles of tokens of the head for which there are values
        for phase in range(len(units) + 2):
            half, epilogues = self._linear.next_half(), list[Callable[[], None]]()
            place = half
            if phase < len(units):
                self._scores(units[phase], half)
                place += units[phase].rows * self._g.tiles(units[phase].sentence.window_words)
            if 0 < phase <= len(units):
                unit = units[phase - 1]
                done = 0 if unit.head != units[phase - 2].head else done
                end = value_tiles(self._g, unit.sentence)
                if end > done:
                    epilogues.append(project(unit.head, done, end - done, place))
                    done = end
            if phase > 1:
                epilogues.append(self._values(units[phase - 2], half))
            for epilogue in reversed(epilogues):
                epilogue()
            if phase < len(units):
                self._softmax(units[phase], half)

    def _comment(self, unit: _Unit, what: str) -> str:
        return (
            f"{self._linear.label} {what}, sentence {unit.sentence.index} head {unit.head} row {unit.first}"
        )

    def _numerators(self, unit: _Unit) -> View:
        return View(self._tensors.numerators[unit.index % 2], 0, unit.sentence.window_words)

    def _row(self, unit: _Unit) -> int:
        return unit.index % self._statistics * self._plan.choice.unit

    def _scores(self, unit: _Unit, half: int) -> None:
        """Scores of ``unit``, from the start of an accumulator half on."""
        g = self._g
        tiles = g.tiles(unit.sentence.window_words)
        chunk = tiles if self._tensors.key.region is not None else self._plan.choice.key_tiles
        piece = g.piece_words(g.head_words) if "heads" in self._plan.choice.streamed else g.head_words
        for part in range(0, g.head_words, piece):
            for tile in range(0, tiles, chunk):
                count, words = min(chunk, tiles - tile), min(piece, g.head_words - part)
                self._scores_of(unit, tile, count, half + tile * unit.rows, part, words)

    def _scores_of(self, unit: _Unit, tile: int, tiles: int, accumulator: int, part: int, words: int) -> None:
        """Scores of ``unit`` with the keys of ``tiles`` tiles from ``tile`` on, by ``words`` words of the head from
        word ``part`` on, added to those of the words before."""
        g, config = self._g, self._config
        used = min(words, g.words(g.head) - part)  # what pads a head is zero
        if used < 1:
            return
        word = unit.head * g.head_words + part
        first = unit.sentence.window + tile * config.cols
        last = min(self._plan.group.tokens, first + tiles * config.cols)
        key = self._tensors.key.read(min(first, last - 1), last, word, words, tiles * config.cols * words)
        query = self._tensors.query.read(unit.first, unit.end, word, words)
        self._recorder.matmul(
            query, key, accumulator, unit.rows, tiles, used, accumulate=part > 0, comment=self._comment(unit, "scores")
        )

    def _chunks(self, unit: _Unit) -> list[tuple[int, int]]:
        """First word of the window, and words, of each chunk of keys."""
        words = unit.sentence.window_words
        chunk = self._plan.choice.chunk_tiles * self._config.cols // self._config.rows
        return [(first, min(chunk, words - first)) for first in range(0, words, chunk)]

    def _scores_of_chunk(self, unit: _Unit, index: int, half: int) -> None:
        tile = index * self._plan.choice.chunk_tiles
        tiles = self._g.tiles(self._chunks(unit)[index][1])
        self._scores_of(unit, tile, tiles, half, 0, self._g.head_words)

    def _maxima(self, unit: _Unit | None, first: int, end: int, half: int) -> None:
        """What chunks ``first`` to ``end`` - 1, as far as there are any, add to the maxima of the rows."""
        chunks = self._chunks(unit) if unit is not None else []
        for index in range(first, min(end, len(chunks))):
            assert unit is not None
            self._scores_of_chunk(unit, index, half)
            self._softmax_function(
                Function.ROW_MAXIMUM, unit, half, *chunks[index], index > 0, index + 1 < len(chunks)
            )

    def _in_chunks(self) -> None:
        """All units. The scores are made in one half, and the weighted values in the other: while the vector engine
        makes the numerators of a chunk, or finds the maxima of one of the next unit, the array weights the values of
        the chunk before."""
        half = self._linear.next_half()
        numerators = cycle(self._tensors.numerators)
        values: list[Callable[[], None]] = []
        self._maxima(self._units[0], 0, len(self._chunks(self._units[0])), half)
        for unit, following in zip(self._units, [*self._units[1:], None], strict=True):
            chunks = self._chunks(unit)
            for index, (first, words) in enumerate(chunks):
                view, unfinished = View(next(numerators), 0, words), index + 1 < len(chunks)
                self._scores_of_chunk(unit, index, half)
                self._softmax_function(Function.EXPONENTIAL, unit, half, first, words, index > 0, unfinished, view)
                self._keep(unit, view, first, words)
                # With the next unit's maxima begins the time of its row statistics: do they replace the last unit's?
                early = 1 if index > 0 or self._statistics > 2 else len(values)
                for part in values[:early]:
                    part()
                self._maxima(following, index, index + 1, half)
                for part in values[early:]:
                    part()
                values = self._values_of_chunk(unit, half ^ self._config.half_words, view, first, words, unfinished)
            if following is not None:
                self._maxima(following, len(chunks), len(self._chunks(following)), half)
        for part in values:
            part()

    def _values_of_chunk(
        self, unit: _Unit, half: int, numerators: View, first: int, words: int, unfinished: bool
    ) -> list[Callable[[], None]]:
        """What records the weighted values of ``words`` words of keys from word ``first`` of the window on, in two
        parts of whole beats if there are as many; unless ``unfinished`` the last part ends with the unit's output."""
        cut = min(words, ceil_div(ceil_div(words, 2), self._beat_words) * self._beat_words)

        def record(start: int, end: int) -> None:
            output = self._part_of_values(
                unit, half, 0, self._g.head_words, numerators.at(0, start), first + start, end - start
            )
            if end == words and not unfinished:
                output()

        return [partial(record, *part) for part in ((0, cut), (cut, words)) if part[1] > part[0]]

    def _softmax(self, unit: _Unit, half: int) -> None:
        words, numerators = unit.sentence.window_words, self._numerators(unit)
        self._softmax_function(Function.ROW_MAXIMUM, unit, half, 0, words)
        self._softmax_function(Function.EXPONENTIAL, unit, half, 0, words, destination=numerators)
        self._keep(unit, numerators, 0, words)

    def _softmax_function(
        self, function: Function, unit: _Unit, accumulator: int, first: int, words: int, continues: bool = False,
        unfinished: bool = False, destination: View | None = None,
    ) -> None:
        """ROW_MAXIMUM or EXPONENTIAL for the scores of ``words`` words of keys of the window, from ``first`` on."""
        layer, exponential = self._linear.layer, function is Function.EXPONENTIAL
        assert layer is not None
        mask = self._tensors.mask.read(0, 1, 0, self._tensors.mask.words)
        self._recorder.vector(
            function,
            accumulator,
            unit.rows,
            self._g.groups(words),
            parameters=mask.at(0, unit.sentence.mask + self._g.groups(first)),
            destination=destination,
            row=self._row(unit),
            multiplier=layer.score.multiplier if exponential else 0,
            shift=layer.score.shift if exponential else 0,
            continues=continues,
            unfinished=unfinished,
            comment=self._comment(unit, "numerators" if exponential else "maximum"),
        )

    def _keep(self, unit: _Unit, numerators: View, word: int, words: int) -> None:
        """Store ``words`` words of the numerators of each row, from ``word`` on, if they are kept."""
        home = self._tensors.kept.get(unit.sentence.index)
        if home is not None:
            first = unit.head * unit.sentence.length + unit.first - unit.sentence.start
            rows = first, first + unit.rows
            self._recorder.store(numerators, home, rows, word, words, self._comment(unit, "numerators"))

    def _values(self, unit: _Unit, half: int) -> Callable[[], None]:
        """Weighted values of ``unit``; returns what records their epilogue, or that of the last part of a head."""
        if "heads" not in self._plan.choice.streamed:
            return self._part_of_values(unit, half, 0, self._g.head_words)
        *parts, last = range(0, self._g.head_words, self._g.tile_step_words)
        for part in parts:
            self._part_of_values(unit, half, part, self._g.tile_step_words)()
        return self._part_of_values(unit, half, last, self._g.head_words - last)

    def _part_of_values(
        self, unit: _Unit, half: int, first: int, words: int, numerators: View | None = None, start: int = 0,
        total: int = 0,
    ) -> Callable[[], None]:
        """Weighted values of ``unit`` for ``words`` words of its head, from word ``first`` on; returns what records
        their epilogue. ``numerators`` are those of ``total`` words of keys from word ``start`` of the window on, and
        their sums are added to those of the keys before; else of all."""
        g, sentence = self._g, unit.sentence
        tiles, word = g.tiles(words), unit.head * g.head_words + first
        channel = unit.head * g.head + first * self._config.rows
        accumulator = half + self._config.half_words - tiles * unit.rows
        if numerators is None:
            numerators, total = self._numerators(unit), sentence.window_words
        chunk = total if self._tensors.value.region is not None else self._plan.choice.value_words
        chunk = min(chunk, self._config.max_k // self._config.rows)
        for part in range(0, total, chunk):
            count = min(chunk, total - part)
            # What a tile has beyond the channels, nobody looks at.
            channels = min(tiles * self._config.cols, words * self._config.rows)
            value = self._tensors.value.read(
                channel, channel + channels, g.words(sentence.window) + start + part, count,
                tiles * self._config.cols * count,
            )
            self._recorder.matmul(
                numerators.at(0, part),
                value,
                accumulator,
                unit.rows,
                tiles,
                count,
                accumulate=start + part > 0,
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
