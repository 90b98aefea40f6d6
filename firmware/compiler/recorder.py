"""Operations in the making: instructions whose buffers have no addresses yet, and the placement that gives
them some.

The scheduler records what the engines compute, in a valid sequential order. Each operand is a :class:`View`
of a planned region, whose address is known, or of a buffer that is loaded or written when the time comes.
:func:`place` then walks through the record: it allocates the buffers in a ring and puts each load at the
earliest place of the program at which the words it overwrites have been used for the last time, so that the
load engine runs ahead as far as the memory allows.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...hdl.config import AcceleratorConfig
from ...hdl.isa import Function, Opcode
from ..machine.assembler import Instruction
from ..machine.memory import Region, Ring

__all__ = ["Buffer", "DramArray", "Recorder", "RingError", "View", "place"]

_BEFORE = -1
#: Buffers in the ring at once: well below what a semaphore can count.
_MOST_BUFFERS = 96


class RingError(RuntimeError):
    """The ring is too small for what one operation needs at once; the planner then tries another plan."""


@dataclass(eq=False, slots=True)
class Buffer:
    """Words that are filled at a time that :func:`place` chooses.

    ``loads`` are the transfers that fill it, each with the word of the buffer from which on it writes (none: an
    operation writes it); ``region`` the fixed place that it goes to (None: a ring, and that of parameters if it has
    ``parameters``); ``ready`` the last operation that has to be in the program before it is filled.
    """

    words: int
    loads: list[tuple[int, Instruction]] = field(default_factory=list)
    region: Region | None = None
    parameters: bool = False
    ready: int = _BEFORE
    first: int = -1
    last: int = -1
    address: int = -1
    filled: bool = False


@dataclass(slots=True)
class View:
    """Rows of words: row i starts at word ``offset + i * stride`` of ``base``."""

    base: Buffer | Region
    offset: int
    stride: int

    def from_row(self, row: int) -> "View":
        """The rows from ``row`` on."""
        return self.at(row)

    def at(self, row: int, word: int = 0) -> "View":
        """The view from ``row`` and ``word`` on."""
        return View(self.base, self.offset + row * self.stride + word, self.stride)


@dataclass(eq=False, slots=True)
class DramArray:
    """``rows`` rows of ``words`` words in DRAM, from byte ``address`` on.

    Row i begins ``i * row_bytes`` bytes further on. Where ``piece_words`` is given, rows are cut into pieces of as
    many words, and a piece of all rows lies before the next piece of them, so that a piece of some rows is one run of
    bytes. ``stores`` has for each range of rows (first, last + 1) the last operation that stored to it."""

    address: int
    row_bytes: int
    rows: int
    words: int
    piece_words: int = 0
    stores: dict[tuple[int, int], int] = field(default_factory=dict)

    def runs(self, config: AcceleratorConfig, row: int, word: int, words: int) -> Iterator[tuple[int, int, int]]:
        """``words`` words of a row from ``word`` on: DRAM address, bytes from there to the next row's, and words of
        each run of them."""
        size = config.word_bytes
        if not 0 <= word < word + words <= self.words:
            raise ValueError(f"a row has words 0 to {self.words - 1}, not {word} to {word + words - 1}")
        if not self.piece_words:
            yield self.address + row * self.row_bytes + word * size, self.row_bytes, words
            return
        end = word + words
        while word < end:
            first = word // self.piece_words * self.piece_words
            width = min(self.piece_words, self.words - first)
            pitch = -(-width * size // config.bus_bytes) * config.bus_bytes
            count = min(end, first + width) - word
            yield self.address + self.rows * first * size + row * pitch + (word - first) * size, pitch, count
            word += count

    def last_store(self, first: int, end: int) -> int:
        """The last operation that stored to one of the rows ``first`` to ``end`` - 1."""
        found = (op for (low, high), op in self.stores.items() if low < end and first < high)
        return max(found, default=_BEFORE)


@dataclass(eq=False, slots=True)
class _Operation:
    instruction: Instruction
    operands: tuple[tuple[str, View], ...]


class Recorder:
    """Records operations in program order, and the buffers that they need."""

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.operations: list[_Operation] = []
        self.ring_buffers: list[Buffer] = []
        self.region_buffers: list[Buffer] = []
        self._unused: dict[int, list[Buffer]] = {}  # what goes to a region that nobody has used since, by its identity

    def _record(self, instruction: Instruction, operands: tuple[tuple[str, View], ...]) -> int:
        index = len(self.operations)
        fields = instruction.fields
        for name, view in operands:
            base = view.base
            if name != "parameters":
                fields[f"{name}_stride"] = view.stride
            if isinstance(base, Region):
                base.last_use = index
                for buffer in self._unused.pop(id(base), ()):
                    buffer.first = index if buffer.first < 0 else buffer.first
                continue
            if base.first < 0:
                base.first = index
            base.last = index
            if base.region is not None:
                base.region.last_use = index
        self.operations.append(_Operation(instruction, operands))
        return index

    def fill(self, words: int, dram: int, comment: str, parameters: bool = False) -> Buffer:
        """A ring buffer that one contiguous transfer fills; in the ring of ``parameters``, where there is one."""
        load = Instruction(
            Opcode.LOAD,
            {
                "dram_address": dram,
                "count": 1,
                "dram_stride": 0,
                "words": words,
                "scratchpad": 0,
                "scratchpad_stride": words,
            },
            comment=comment,
        )
        buffer = Buffer(words, [(0, load)], parameters=parameters)
        self.ring_buffers.append(buffer)
        return buffer

    def scratch(self, words: int) -> Buffer:
        """A ring buffer that an operation fills."""
        buffer = Buffer(words)
        self.ring_buffers.append(buffer)
        return buffer

    def _transfers(
        self, source: DramArray, rows: tuple[int, int], word: int, words: int, comment: str
    ) -> list[tuple[int, Instruction]]:
        """Loads of words ``word`` to ``word + words - 1`` of ``rows`` of ``source`` to consecutive words, each with the
        first of these."""
        found, place = [], 0
        for address, stride, run in source.runs(self.config, rows[0], word, words):
            count, length = rows[1] - rows[0], run
            if stride == run * self.config.word_bytes and run == words and count * run < 1 << 16:
                count, length, stride = 1, count * run, 0
            fields = {
                "dram_address": address,
                "count": count,
                "dram_stride": stride,
                "words": length,
                "scratchpad": 0,
                "scratchpad_stride": words,
            }
            found.append((place, Instruction(Opcode.LOAD, fields, comment=comment)))
            place += run
        return found

    def fetch(
        self,
        region: Region,
        source: DramArray,
        rows: tuple[int, int],
        word: int,
        words: int,
        comment: str,
        row: int = 0,
    ) -> View:
        """Load words ``word`` to ``word + words - 1`` of ``rows`` of ``source`` into ``region``, from its row
        ``row`` on."""
        buffer = Buffer(region.words, self._transfers(source, rows, word, words, comment), region)
        buffer.address = region.address + row * words
        buffer.ready = max(source.last_store(*rows), *(other.last_use for other in region.overlaps))
        self.region_buffers.append(buffer)
        self._unused.setdefault(id(region), []).append(buffer)
        return View(buffer, 0, words)

    def stream(
        self, source: DramArray, rows: tuple[int, int], word: int, words: int, comment: str, room: int
    ) -> View:
        """The same into the ring, where it takes ``room`` words, or as many as are loaded if those are
        more."""
        size = max(room, (rows[1] - rows[0]) * words)
        buffer = Buffer(size, self._transfers(source, rows, word, words, comment))
        buffer.ready = source.last_store(*rows)
        self.ring_buffers.append(buffer)
        return View(buffer, 0, words)

    def store(
        self, view: View, target: DramArray, rows: tuple[int, int], word: int, words: int, comment: str
    ) -> None:
        """Write ``words`` words of each row of ``view`` to ``rows`` of ``target``, from its word ``word``
        on."""
        place = 0
        for address, stride, run in target.runs(self.config, rows[0], word, words):
            fields = {"dram_address": address, "count": rows[1] - rows[0], "dram_stride": stride, "words": run}
            total = fields["count"] * run
            if view.stride == run and stride == run * self.config.word_bytes and total < 1 << 16:
                fields |= {"count": 1, "dram_stride": 0, "words": total}
            instruction = Instruction(Opcode.STORE, fields, comment=comment)
            index = self._record(instruction, (("scratchpad", view.at(0, place)),))
            place += run
        target.stores[rows] = index

    def matmul(
        self,
        a: View,
        b: View,
        accumulator: int,
        m: int,
        n_tiles: int,
        k_tiles: int,
        *,
        accumulate: bool = False,
        a_unsigned: bool = False,
        comment: str = "",
        accumulator_stride: int = 0,
    ) -> None:
        """Record a MATMUL; the accumulators of a column tile are ``m`` words unless a stride is given."""
        self._record(
            Instruction(
                Opcode.MATMUL,
                {
                    "accumulator": accumulator,
                    "accumulator_stride": accumulator_stride or m,
                    "m": m,
                    "n_tiles": n_tiles,
                    "k_tiles": k_tiles,
                    "accumulate": int(accumulate),
                    "a_unsigned": int(a_unsigned),
                },
                comment=comment,
            ),
            (("a", a), ("b", b)),
        )

    def vector(
        self,
        function: Function,
        accumulator: int,
        m: int,
        groups: int,
        *,
        parameters: View | None = None,
        destination: View | None = None,
        operand: View | None = None,
        row: int = 0,
        multiplier: int = 0,
        shift: int = 0,
        accumulator_stride: int = 0,
        continues: bool = False,
        unfinished: bool = False,
        comment: str = "",
    ) -> None:
        """Record a VECTOR instruction."""
        operands = [("parameters", parameters), ("destination", destination), ("operand", operand)]
        self._record(
            Instruction(
                Opcode.VECTOR,
                {
                    "accumulator": accumulator,
                    "accumulator_stride": accumulator_stride or m,
                    "row": row,
                    "m": m,
                    "groups": groups,
                    "multiplier": multiplier,
                    "shift": shift,
                    "continues": int(continues),
                    "unfinished": int(unfinished),
                },
                function,
                comment,
            ),
            tuple((name, view) for name, view in operands if view is not None),
        )


class _Loads:
    """The buffers that still have to be filled, in the order of their first use: those in the ring, and those in
    regions; neither kind holds up the other."""

    def __init__(
        self, recorder: Recorder, ring: Ring, parameters: Ring | None, program: list[Instruction], ahead: bool
    ):
        used = [buffer for buffer in recorder.ring_buffers if buffer.first >= 0]
        self._ring_buffers = deque(sorted(used, key=lambda buffer: buffer.first))
        self._region_buffers = deque(sorted(recorder.region_buffers, key=lambda buffer: buffer.first))
        self._ring = ring
        self._parameters = parameters
        self._program = program
        self._ahead = ahead
        # Fetch stops at a load that the queue has no room for. As many loads as the queue holds may lie before an
        # operation that does not need them: then fetch gets to it no later than the load that it does need.
        self._most_ahead = recorder.config.load_queue_depth
        self._waiting: list[int] = []  # for each load that is ahead, the operation that needs it

    @property
    def _buffers(self) -> int:
        return self._ring.buffers + (self._parameters.buffers if self._parameters else 0)

    def free(self, buffer: Buffer) -> None:
        """Give back the words of ``buffer``."""
        for ring in (self._ring, self._parameters):
            if ring is not None:
                ring.free(buffer.address)

    def _fill_ring(self, done: int) -> bool:
        buffer = self._ring_buffers[0]
        crowded = self._buffers >= _MOST_BUFFERS or self._too_early(buffer, done)
        if not self._ahead:
            crowded = buffer.first > done + 1
            self._ring.rewind()
        if crowded or buffer.ready > done:
            return False
        rings = [self._parameters, self._ring] if self._parameters and buffer.parameters else [self._ring]
        address = next((found for ring in rings if (found := ring.allocate(buffer.words)) is not None), None)
        if address is None:
            return False
        buffer.address = address
        self._emit(buffer)
        buffer.filled = True
        self._ring_buffers.popleft()
        return True

    def _fill_region(self, done: int) -> bool:
        buffer = self._region_buffers[0]
        if buffer.ready > done or self._too_early(buffer, done):
            return False
        self._emit(buffer)
        buffer.filled = True
        self._region_buffers.popleft()
        return True

    def _too_early(self, buffer: Buffer, done: int) -> bool:
        """Whether the loads of ``buffer`` would keep fetch from what comes after operation ``done``."""
        self._waiting = [first for first in self._waiting if first > done]
        return bool(buffer.loads) and buffer.first > done + 1 and len(self._waiting) >= self._most_ahead

    def _emit(self, buffer: Buffer) -> None:
        self._waiting += [buffer.first] * len(buffer.loads)
        for place, load in buffer.loads:
            load.fields["scratchpad"] = buffer.address + place
            self._program.append(load)

    def advance(self, done: int) -> None:
        """Emit every load that is possible once operation ``done`` is in the program."""
        ring_blocked = region_blocked = False
        while True:
            ring_next = self._ring_buffers[0].first if self._ring_buffers and not ring_blocked else None
            region_next = (
                self._region_buffers[0].first if self._region_buffers and not region_blocked else None
            )
            if ring_next is None and region_next is None:
                return
            if region_next is None or (ring_next is not None and ring_next < region_next):
                ring_blocked = not self._fill_ring(done)
            else:
                region_blocked = not self._fill_region(done)


def place(
    recorder: Recorder, ring: Ring, ahead: bool = True, parameters: Ring | None = None
) -> list[Instruction]:
    """The program, without synchronisation: operations with their addresses, and loads as early as they can be, those
    of ``parameters`` to a ring of their own, if there is one and it has room. Unless they may run ``ahead``, loads come
    only right before the operation that uses them first, at the start of the ring, so that its gaps stay in one piece.

    Raises
    ------
    RingError
        When an operation's buffers do not fit the ring together.
    """
    program: list[Instruction] = []
    for buffer in (*recorder.ring_buffers, *recorder.region_buffers):
        buffer.filled = False
    loads = _Loads(recorder, ring, parameters, program, ahead)
    loads.advance(_BEFORE)
    for index, operation in enumerate(recorder.operations):
        fields = operation.instruction.fields
        finished: list[Buffer] = []
        for name, view in operation.operands:
            base = view.base
            if isinstance(base, Buffer):
                if not base.filled:
                    raise RingError(
                        f"{operation.instruction.comment}: {base.words} words do not fit the ring"
                    )
                if base.last == index and base.region is None and base not in finished:
                    finished.append(base)
            fields[name] = base.address + view.offset
        program.append(operation.instruction)
        for buffer in finished:
            loads.free(buffer)
        loads.advance(index)
    return program
