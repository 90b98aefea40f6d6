"""Linear layers: weights streamed through the ring, products in accumulator steps of alternating halves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...hdl.isa import ROW_RECORD, Function
from ...hdl.vector.issuer import group_cycles
from ..machine.geometry import Geometry, ceil_div
from ..machine.layout import LayerImage, WeightImage
from .recorder import Recorder, View
from .tensors import Pieces

__all__ = ["LinearScheduler", "Part", "Step"]

#: A part of a row: its first word, and how many.
Part = tuple[int, int]

#: Largest load that is worth while.
_CHUNK_WORDS = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """Results that lie in one accumulator half: ``tiles`` column tiles from ``tile`` on, of ``words`` words
    of results from word ``word`` of a row on; their accumulators start at ``accumulator``."""

    tile: int
    tiles: int
    word: int
    words: int
    accumulator: int


class LinearScheduler:
    """Records products of activations in the scratchpad with streamed weights.

    ``base`` is the DRAM address of the model's image; a step has up to ``step_words`` accumulator words,
    where there is a choice.
    """

    def __init__(self, geometry: Geometry, recorder: Recorder, base: int, ring_words: int, step_words: int):
        self.geometry = geometry
        self.config = geometry.config
        self.recorder = recorder
        self.layer: LayerImage | None = None
        self.label = ""
        self._base = base
        self._ring_words = ring_words
        self._chunk_words = min(_CHUNK_WORDS, ring_words // 4)
        self._step_words = min(step_words, geometry.config.half_words)
        self._half = 0
        #: Cycles for which the vector engine still works in the accumulator half that is not the next step's.
        self.owed = 0

    def next_half(self) -> int:
        """The accumulator half of the next step: they take turns."""
        self._half ^= 1
        return self._half * self.config.half_words

    def weight(self, name: str) -> WeightImage:
        """A weight matrix of the current layer."""
        assert self.layer is not None
        return self.layer.weights[name]

    def parameters(self, name: str, word: int, words: int) -> View:
        """Load the parameters of ``words`` words of results from word ``word`` on."""
        assert self.layer is not None
        image = self.layer.parameters[name]
        group, groups = self.geometry.groups(word), self.geometry.groups(words)
        address = self._base + image.offset + group * image.group_words * self.config.word_bytes
        comment = f"{self.label} {name} parameters"
        buffer = self.recorder.fill(groups * image.group_words, address, comment, parameters=True)
        return View(buffer, 0, 0)

    def _load_rows(self, name: str, first: int, count: int, row: int) -> None:
        """Load the row parameters of ``count`` rows from ``first`` on into the row table's entries from
        ``row`` on; a few entries before it are overwritten, where the bus asks for an aligned address."""
        assert self.layer is not None
        extra = first % (self.config.bus_bytes // ROW_RECORD.size)
        address = self._base + self.layer.parameters[name].offset + (first - extra) * ROW_RECORD.size
        words = ceil_div((extra + count) * ROW_RECORD.size, self.config.word_bytes)
        comment = f"{self.label} {name} row parameters"
        records = View(self.recorder.fill(words, address, comment, parameters=True), 0, 0)
        self.recorder.vector(
            Function.LOAD_ROWS, 0, extra + count, 1, parameters=records, row=row - extra, comment=comment
        )

    def _piece(
        self, weight: WeightImage, tile: int, tiles: int, piece: int, row: int = 0, rows: int = 0
    ) -> View:
        """Load a piece of a tile (``rows`` rows of it from ``row`` on, if given), or several whole tiles."""
        width = weight.width(piece)
        words = (rows or self.config.cols * tiles) * width
        address = (
            self._base + weight.offset + (weight.word(tile, piece) + row * width) * self.config.word_bytes
        )
        return View(
            self.recorder.fill(words, address, f"{self.label} {weight.name} weights, tile {tile}"), 0, width
        )

    def steps(
        self, weight: WeightImage, m: int, words: int, whole: bool, parameter_words: int, staged: bool
    ) -> Iterator[Step]:
        """Cut ``words`` words of results of ``m`` rows into steps: one step if ``whole``.

        ``parameter_words`` is the parameters' size for each group; ``staged`` tells that the results go
        through the ring."""
        g = self.geometry
        if whole:
            yield Step(0, g.tiles(words), 0, words, self.next_half())
            return
        most = max(1, self._step_words // m // g.tile_step) * g.tile_step
        unit_words = g.tile_step_words
        cost = g.groups(unit_words) * parameter_words + (m * unit_words if staged else 0)
        most = min(most, max(1, self._ring_words // 4 // cost) * g.tile_step)
        total = g.tiles(words)
        most = ceil_div(ceil_div(total, ceil_div(total, most)), g.tile_step) * g.tile_step
        first = self._first_tiles(weight, m, most) if not staged else most
        for tile in [0, *range(min(first, total), total, most)]:
            tiles = min(most if tile else first, total - tile)
            word = tile * self.config.cols // self.config.rows
            end = min(words, (tile + tiles) * self.config.cols // self.config.rows)
            yield Step(tile, tiles, word, end - word, self.next_half())

    def _first_tiles(self, weight: WeightImage, m: int, most: int) -> int:
        """Column tiles of the first of several steps of ``m`` rows, else of ``most``: as many as the array has to do
        while the vector engine works in the other half."""
        owed, self.owed = self.owed, 0
        step = self.geometry.tile_step
        tiles = ceil_div(ceil_div(owed, max(m, self.config.cols) * weight.k_words), step) * step
        return max(most, min(tiles, self.config.half_words // m // step * step))

    def parts(self, step: Step, m: int, records: int, staged: bool) -> Iterator[Step]:
        """``step`` in parts whose parameters, ``records`` of each column, the ring has room for beside weights;
        ``staged`` tells that ``m`` rows of as many words, read or written, go through the ring too."""
        g = self.geometry
        unit = g.groups(g.tile_step_words) * records * self.config.parameter_words
        unit += m * g.tile_step_words if staged else 0
        most = max(1, self._ring_words // 3 // unit) * g.tile_step
        most = ceil_div(ceil_div(step.tiles, ceil_div(step.tiles, most)), g.tile_step) * g.tile_step
        for tile in range(0, step.tiles, most):
            tiles = min(most, step.tiles - tile)
            word = tile * self.config.cols // self.config.rows
            end = min(step.words, (tile + tiles) * self.config.cols // self.config.rows)
            yield Step(step.tile + tile, tiles, step.word + word, end - word, step.accumulator + tile * m)

    def tapered(self, weight: WeightImage, m: int, words: int, epilogue: Function) -> list[Step]:
        """Cut ``words`` words of results into two steps, in either half: the second with as few tiles as let the first
        one's ``epilogue`` hide under its product. One step, where that is the whole."""
        g = self.geometry
        total = g.tiles(words)
        vector = group_cycles(self.config, epilogue, m) * self.config.cols // self.config.lanes
        array = max(m, self.config.cols) * weight.k_words
        last = ceil_div(ceil_div(total * vector, vector + array), g.tile_step) * g.tile_step
        cuts = [0, total - last, total] if 0 < last < total else [0, total]
        steps = []
        for tile, end in pairwise(cuts):
            word, stop = (min(words, t * self.config.cols // self.config.rows) for t in (tile, end))
            steps.append(Step(tile, end - tile, word, stop - word, self.next_half() + tile * m))
        return steps

    def growing(self, steps: Sequence[Step], m: int) -> Iterator[Step]:
        """The parts in which ``steps`` of :meth:`tapered` are normalised: the last step first, then the others, in
        parts twice as large as the one before, so that a product that takes them up as they come starts early."""
        g = self.geometry
        size = steps[-1].tiles if len(steps) > 1 else g.tile_step
        for step in reversed(steps):
            tile = 0
            while tile < step.tiles:
                tiles = min(size, step.tiles - tile)
                word = tile * self.config.cols // self.config.rows
                end = min(step.words, (tile + tiles) * self.config.cols // self.config.rows)
                yield Step(step.tile + tile, tiles, step.word + word, end - word, step.accumulator + tile * m)
                tile, size = tile + tiles, 2 * size

    def row_limit(self, staged: bool) -> int:
        """Most rows that a step can have; ``staged`` as for :meth:`steps`."""
        limit = min(self.config.half_words // self.geometry.tile_step, self.config.row_entries)
        return max(1, min(limit, self._ring_words // 3 // self.geometry.tile_step_words)) if staged else limit

    def product(
        self, name: str, a: View | Pieces, m: int, step: Step, ready: Sequence[Part] = (), tiles: int = 0
    ) -> None:
        """Multiply ``m`` rows of ``a`` with the weights of ``step``. ``ready`` are the parts of its rows (first word,
        words) in the order in which they are made, if they may still be in the making: as many column tiles as
        ``tiles`` says, or fewer if the ring has no room for their weights, take each part as soon as it is there."""
        if isinstance(a, Pieces) and not a.tensor.slots:
            self._product_of_pieces(name, a, m, step)
            return
        weight = self.weight(name)
        chunk = max(1, self._chunk_words // weight.tile_words)
        tile, end = step.tile, step.tile + step.tiles
        if weight.pieces == 1 and len(ready) > 1:
            assert isinstance(a, View)
            tile += self._product_of_parts(weight, a, m, step, ready, tiles)
        while tile < end:
            accumulator = step.accumulator + (tile - step.tile) * m
            comment = f"{self.label} {name} tile {tile}"
            if weight.pieces > 1:
                for piece in range(weight.pieces):
                    b = self._piece(weight, tile, 1, piece)
                    self.recorder.matmul(
                        a.at(0, piece * weight.piece_words),
                        b,
                        accumulator,
                        m,
                        1,
                        weight.reduction(piece),
                        accumulate=piece > 0,
                        comment=comment,
                    )
                tile += 1
                continue
            assert isinstance(a, View)
            tiles = min(chunk, end - tile)
            b = self._piece(weight, tile, tiles, 0)
            self.recorder.matmul(a, b, accumulator, m, tiles, weight.k_words, comment=comment)
            tile += tiles

    def _product_of_parts(
        self, weight: WeightImage, a: View, m: int, step: Step, ready: Sequence[Part], tiles: int
    ) -> int:
        """The first column tiles of ``step``, part by part of the reduction; returns how many they are."""
        room = max(1, self._ring_words // 2 // weight.tile_words)
        count = min(tiles, step.tiles, room)
        chunk = max(1, self._chunk_words // weight.tile_words)
        loaded = [
            (tile, min(chunk, count - tile), self._piece(weight, step.tile + tile, min(chunk, count - tile), 0))
            for tile in range(0, count, chunk)
        ]
        for index, (word, words) in enumerate(ready):
            for tile, n, b in loaded:
                self.recorder.matmul(
                    a.at(0, word),
                    b.at(0, word),
                    step.accumulator + tile * m,
                    m,
                    n,
                    words,
                    accumulate=index > 0,
                    comment=f"{self.label} {weight.name} tile {step.tile + tile}",
                )
        return count

    def _product_of_pieces(self, name: str, a: Pieces, m: int, step: Step) -> None:
        """The same with rows that come in pieces through the ring: each is loaded once for all tiles of the step,
        whose partial sums wait in the accumulators."""
        weight = self.weight(name)
        for piece in range(weight.pieces):
            operand = a.at(0, piece * weight.piece_words)
            for tile in range(step.tile, step.tile + step.tiles):
                self.recorder.matmul(
                    operand,
                    self._piece(weight, tile, 1, piece),
                    step.accumulator + (tile - step.tile) * m,
                    m,
                    1,
                    weight.reduction(piece),
                    accumulate=piece > 0,
                    comment=f"{self.label} {name} tile {tile}",
                )

    def transposed(
        self,
        name: str,
        x: View | Pieces,
        tokens: int,
        write: Callable[[int, int, int, int, int, int], None],
    ) -> Iterator[Callable[[], None]]:
        """The steps of W . X^T, each to be called in its turn: ``tokens`` rows of ``x`` are the columns.

        ``write(first channel, channels, first word, words, accumulator, row)`` records the epilogue that
        scales by the row table's entries from ``row`` on.
        """
        g, config, weight = self.geometry, self.config, self.weight(name)
        words = g.words(tokens)
        total = g.tiles(words)
        limit = config.half_words // g.tile_step
        channels = min(config.cols, limit, config.row_entries // 8)
        channels = 1 << channels.bit_length() - 1
        if channels == config.cols and weight.pieces == 1:
            most = self._chunk_words // weight.tile_words
            most = min(most, self._step_words // (config.cols * total), config.row_entries // 8 // config.cols)
            channels *= max(1, most)
        tiles = min(total, max(1, config.half_words // channels // g.tile_step) * g.tile_step)
        height = weight.tiles * config.cols
        row = config.row_entries - channels

        def step(first: int, count: int) -> None:
            self._load_rows(name, first, count, row)
            whole: View | None = None
            for start in range(0, total, tiles):
                n = min(tiles, total - start)
                accumulator = self.next_half()
                for piece in range(weight.pieces):
                    if weight.pieces > 1 or whole is None:
                        whole = self._piece(
                            weight, first // config.cols, 1, piece, first % config.cols, count
                        )
                    self.recorder.matmul(
                        whole,
                        x.at(start * config.cols, piece * weight.piece_words),
                        accumulator,
                        count,
                        n,
                        weight.reduction(piece),
                        accumulate=piece > 0,
                        comment=f"{self.label} {name} row {first}",
                    )
                word = start * config.cols // config.rows
                end = min(words, (start + n) * config.cols // config.rows)
                write(first, count, word, end - word, accumulator, row)

        for first in range(0, height, channels):
            count = min(channels, height - first)
            yield lambda first=first, count=count: step(first, count)  # type: ignore[misc]

    def transposed_part(
        self,
        name: str,
        x: View,
        first: int,
        count: int,
        tile: int,
        words: int,
        accumulator: int,
        write: Callable[[int, int, int, int, int, int], None],
    ) -> Callable[[], None]:
        """``count`` channels from ``first`` on of :meth:`transposed`, for ``words`` words of columns from column tile
        ``tile`` on, whose accumulators are those from ``accumulator`` on; returns what records their epilogue."""
        g, config, weight = self.geometry, self.config, self.weight(name)
        rows = ceil_div(count, ceil_div(count, max(config.cols, self._chunk_words // weight.row_words)))
        aligned = g.aligned_rows(weight.row_words)
        rows = ceil_div(rows, aligned) * aligned
        for part in range(0, count, rows):
            weight_tile, within = divmod(first + part, config.cols)
            m = min(rows, count - part)
            self.recorder.matmul(
                self._piece(weight, weight_tile, 1, 0, within, m),
                x.at(tile * config.cols),
                accumulator + part,
                m,
                g.tiles(words),
                weight.k_words,
                accumulator_stride=count,
                comment=f"{self.label} {name} row {first + part}",
            )

        def epilogue() -> None:
            row = config.row_entries - count
            self._load_rows(name, first, count, row)
            write(first, count, tile * config.cols // config.rows, words, accumulator, row)

        return epilogue
