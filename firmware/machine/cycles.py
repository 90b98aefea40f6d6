"""How long the engines take: a model of each that is exact where no other engine uses the same scratchpad bank.

Cycles are named as in the engines: an instruction is *accepted* from the queue, its first row is *issued*, and it is
*finished* when the sequencer is told so.
"""

from collections import Counter, deque
from dataclasses import dataclass

from ...hdl.config import AcceleratorConfig
from ...hdl.functions import TRAITS, operand_words, result_words
from ...hdl.isa import CURVE_PIECES, ROW_RECORD, Function
from ...hdl.matmul.engine import finish_latency
from ...hdl.matmul.feeders import ACCUMULATE_SPACING, CLOSE_WORDS, tile_cycles
from ...hdl.memory.halves import HALF_USES
from ...hdl.memory.interfaces import READ_LATENCY
from ...hdl.vector.feeder import group_words
from ...hdl.vector.issuer import FETCH_LATENCY, START_LATENCY, group_cycles, group_spacing
from ...hdl.vector.stages import RESULT, entry_stage, normalised_stage
from .geometry import ceil_div

__all__ = ["BankReads", "Halves", "MatmulCycles", "Slot", "VectorCycles"]

_NEVER = -1000  # so long ago that nothing waits for it
_SPANS = 6  # reads of a bank that may still be going on


@dataclass(slots=True)
class Slot:
    """When an instruction was accepted, worked (from ``start`` up to ``end``), and had ``finished``."""

    accepted: int
    start: int
    end: int
    finished: int


class Halves:
    """The first cycle in which the matmul engine may have each accumulator half, and in which an instruction of the
    vector engine may start in it."""

    def __init__(self) -> None:
        self.for_matmul = [0, 0]
        self.for_vector = [0, 0]


class BankReads:
    """What each scratchpad bank is read for, and when."""

    def __init__(self, config: AcceleratorConfig):
        self._words = config.bank_words
        self._spans: dict[int, deque[tuple[int, int, float]]] = {}  # start, end and words of the last ones

    def banks(self, address: int, stride: int, count: int) -> dict[int, float]:
        """The share of ``count`` words, ``stride`` apart, that lies in each bank."""
        first, last = address // self._words, (address + (count - 1) * stride) // self._words
        if first == last:
            return {first: 1.0}
        shares = Counter((address + index * stride) // self._words for index in range(count))
        return {bank: share / count for bank, share in shares.items()}

    def add(self, banks: dict[int, float], start: int, end: int, words: int) -> None:
        """``words`` are read in the cycles from ``start`` up to ``end``."""
        for bank, share in banks.items():
            self._spans.setdefault(bank, deque(maxlen=_SPANS)).append((start, end, share * words))

    def end(self, banks: dict[int, float], start: int) -> int:
        """When what is read of ``banks`` in cycle ``start`` has been read."""
        return max((ends for bank in banks for starts, ends, _ in self._spans.get(bank, ()) if starts <= start < ends),
                   default=start)

    def within(self, banks: dict[int, float], start: int, end: int) -> float:
        """Words that are read in the cycles from ``start`` up to ``end`` of a bank, on average over ``banks``."""
        return sum(
            share * words * max(0, min(end, ends) - max(start, starts)) / max(1, ends - starts)
            for bank, share in banks.items() for starts, ends, words in self._spans.get(bank, ()))


class MatmulCycles:
    """The matmul engine; in ``tiles`` it notes what it reads of its tiles."""

    def __init__(self, config: AcceleratorConfig, halves: Halves, tiles: BankReads):
        self._config, self._halves, self._reads, self._tiles = config, halves, BankReads(config), tiles
        self._accepts = 0  # the weight feeder's next
        self._swap = self._row = _NEVER  # the first row of the last tile, and the last row
        self._ended = 0  # the accumulator word behind the last row's
        self._finishes = deque([_NEVER] * HALF_USES, HALF_USES)
        # Of the last instruction: itself, its half, the banks of its rows of A, and cycles in which none is wanted.
        self._last, self._half, self._spare = Slot(0, 0, 0, 0), 0, 0.0
        self._rows: dict[int, float] = {}

    def run(self, f: dict[str, int], ready: int) -> Slot:
        """The instruction with the fields ``f``, whose semaphores were there in cycle ``ready``."""
        config, half = self._config, f["accumulator"] // self._config.half_words
        accepted = max(ready, self._accepts)
        # The first tile is read while the instruction before still streams.
        reads = max(accepted + 2, self._swap + 1)
        claims = max(accepted + 1, self._row)
        owns = max(claims, self._halves.for_matmul[half], self._finishes[0] + 1)
        start = max(reads + config.cols - 1, owns + 2)
        if f["accumulate"] and 0 < self._ended - f["accumulator"] <= CLOSE_WORDS:
            start = max(start, self._row + ACCUMULATE_SPACING + 1)

        n_tiles, k_tiles = f["n_tiles"], f["k_tiles"]
        tiles = n_tiles * k_tiles
        # The rows of A that can be read beside a tile, where both lie in the same bank, are read after it.
        rows = self._reads.banks(f["a"] + k_tiles // 2, f["a_stride"], min(f["m"], config.cols))
        words = self._tiles.banks(f["b"] + k_tiles // 2, f["b_stride"], n_tiles * config.cols)
        beside = f["m"] + round(config.cols * sum(share * words.get(bank, 0.0) for bank, share in rows.items()))
        adds, new = (max(tile_cycles(config, f["m"], adds), beside) for adds in (True, False))
        cycles = [new, adds][f["accumulate"]] * (n_tiles - 1) + adds * n_tiles * (k_tiles - 1)
        last_cycles = adds if k_tiles > 1 or f["accumulate"] else new
        read = reads + config.cols - 1 if tiles == 1 else start + cycles - last_cycles + config.cols
        self._tiles.add(words, start, start + cycles, (tiles - 1) * config.cols)
        self._accepts = max(read, claims) + 1
        self._swap = start + cycles
        self._row = self._swap + f["m"] - 1
        finished = self._row + finish_latency(config)
        self._ended = f["accumulator"] + (n_tiles - 1) * f["accumulator_stride"] + f["m"]
        self._finishes.append(finished)
        self._halves.for_vector[half] = finished
        self._last, self._half, self._rows = Slot(accepted, start, self._row + 1, finished), half, rows
        self._spare = (max(config.cols, beside) - beside) * tiles
        self.wait(self._reads.within(rows, start, self._row + 1))
        return self._last

    @property
    def free(self) -> int:
        """When the last instruction has read its rows."""
        return self._row

    def wait_for(self, banks: dict[int, float], start: int, end: int, words: int) -> None:
        """Who goes before rows of A reads so many words in the cycles from ``start`` up to ``end``."""
        self._reads.add(banks, start, end, words)
        meant = sum(self._rows.get(bank, 0.0) * share for bank, share in banks.items())
        overlap = min(end, self._last.end) - max(start, self._last.start)
        if meant and overlap > 0:
            self.wait(meant * words * overlap / max(1, end - start))

    def wait(self, words: float) -> None:
        """So many words are read in place of rows of the last instruction."""
        waits, self._spare = max(0, round(words - self._spare)), max(0.0, self._spare - words)
        self._row += waits
        self._swap += waits
        self._accepts += waits
        self._last.end += waits
        self._last.finished += waits
        self._finishes[-1] += waits
        self._halves.for_vector[self._half] = max(self._halves.for_vector[self._half], self._last.finished)


class VectorCycles:
    """The vector engine. It finds in ``tiles`` what goes before its reads, and tells ``matmul`` of them."""

    def __init__(self, config: AcceleratorConfig, halves: Halves, tiles: BankReads, matmul: MatmulCycles):
        self._config, self._halves, self._tiles, self._matmul = config, halves, tiles, matmul
        self._accepts = 0  # the parameter feeder's next
        self._room = _NEVER  # the parameters of the last group were copied: those of the next may be asked for
        self._spaced = _NEVER  # the next beat may be issued, by the spacing of the last group
        self._beat = _NEVER  # the last one
        self._entry = _NEVER  # the last one that makes an entry of the row table, but for those of LayerNorm
        self._normalised = _NEVER  # the first cycle in which a beat may read these
        self._written: dict[int, int] = {}  # the half that RESULTs are written to, and when all will be

    def run(self, function: Function, f: dict[str, int], ready: int) -> Slot:
        """The instruction with the fields ``f``, whose semaphores were there in cycle ``ready``."""
        accepted = max(ready, self._accepts)
        records = {Function.LOAD_ROWS: f["m"], Function.LOAD_CURVE: CURVE_PIECES}.get(function)
        return self._beats(accepted, function, f) if records is None else self._load_table(accepted, records)

    def _load_table(self, accepted: int, records: int) -> Slot:
        """Records of a row or of a chord, which have the same size."""
        words = ceil_div(records, self._config.word_bytes // ROW_RECORD.size)
        start = max(accepted + 1, self._beat + RESULT - 1, self._settled() - START_LATENCY)
        finished = start + words * (READ_LATENCY + 3) + records - (words - 1)
        self._accepts = finished
        return Slot(accepted, start, finished, finished)

    def _settled(self) -> int:
        """The first cycle in which a beat may read the row table."""
        return max(self._entry + entry_stage(self._config) + 1, self._normalised)

    def _beats(self, accepted: int, function: Function, f: dict[str, int]) -> Slot:
        config, traits = self._config, TRAITS[function]
        half, m, groups = f["accumulator"] // config.half_words, f["m"], f["groups"]
        planes, fetches = max(1, result_words(function, f)), int(operand_words(function, f) == 2)
        words, cycles = group_words(config, function), group_cycles(config, function, m, planes, fetches)
        asks = max(accepted + 1, self._room)
        if words:
            place = self._tiles.banks(f["parameters"], 1, words * groups)
            asks, cycles = self._behind_tiles(place, asks, words, groups, cycles)
        claims = max(accepted + 2, self._beat)
        may_start = max(claims, self._halves.for_vector[half])
        if traits.reads_rows or traits.scalar:
            may_start = max(may_start, self._beat + 1, self._settled() - START_LATENCY)
        if traits.statistics:
            may_start = max(may_start, self._normalised - START_LATENCY)
        if traits.scalar or traits.operand:
            may_start = max(may_start, self._beat + RESULT - 1)
        may_start = max(may_start, self._written.get(half, _NEVER))
        start = max(may_start + START_LATENCY + fetches, asks + words + FETCH_LATENCY, self._spaced)

        first = start + (groups - 1) * cycles
        asked = asks + words if groups == 1 else first - cycles + words
        self._accepts = max(asked + 1, claims)
        self._room = first
        spacing = group_spacing(config, function)
        self._spaced = first + m * (planes - 1) + spacing + (m == spacing - 1)
        self._beat = first + m * (planes + fetches) - 1 - fetches
        if function is Function.RESIDUAL and not f["unfinished"]:
            self._normalised = self._beat + normalised_stage(config, m) + 1
        elif traits.statistics and not f["unfinished"]:
            self._entry = self._beat
        if words:
            self._matmul.wait_for(place, asks, first + 1, words * groups)
        if traits.operand:
            banks = self._tiles.banks(f["operand"], f["operand_stride"], m)
            self._matmul.wait_for(banks, start, self._beat + 1, m * groups * (planes + fetches))
        self._halves.for_matmul[half] = self._beat + 1
        if function is Function.RESIDUAL:
            self._written = {half: self._beat + RESULT}
            self._halves.for_matmul[half] = self._beat + RESULT + 1
        return Slot(accepted, start, self._beat + 1, self._beat + RESULT)

    @property
    def free(self) -> int:
        """When the last beat is issued."""
        return self._beat

    def _behind_tiles(
        self, place: dict[int, float], asks: int, words: int, groups: int, cycles: int
    ) -> tuple[int, int]:
        """When the first group's words are asked for, and the cycles of a group, where tiles are read of their banks
        at the same time."""
        end = self._tiles.end(place, asks)
        free = 1 - self._tiles.within(place, asks, asks + groups * cycles) / (groups * cycles)
        if words > free * (words + end - asks):  # the tiles' end comes before enough free cycles
            return end, cycles
        return asks, max(cycles, round(words / free) + FETCH_LATENCY)
