"""A cycle model of the engines: each a queue in order, semaphores between them, costs from the configuration.

It walks through a program once, and computes when each instruction starts and finishes: of all that are fetched and
whose predecessors are known always the one whose engine can have it first.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...hdl.bus.bursts import BURST_BEATS
from ...hdl.config import AcceleratorConfig
from ...hdl.control.fetch import PREFETCH
from ...hdl.isa import INSTRUCTION_BYTES, Engine
from .assembler import Instruction
from .cycles import BankReads, Halves, MatmulCycles, Slot, VectorCycles
from .dependencies import Edge
from .geometry import ceil_div

__all__ = ["Estimate", "Slot", "estimate"]

#: Cycles from a burst's leave to go to its first beat, and from the last beat of a write to its response.
_READ_LATENCY = 45
_WRITE_LATENCY = 20
#: Cycles from a transfer's acceptance to its first burst's leave.
_TO_BUS = 5
#: Bursts that wait for their leave, at most, before those of the next row are worked out.
_WAITING_BURSTS = 5
#: Cycles from the last beat of a load to its end.
_STORED = 5
#: Cycles from the doorbell to the leave of the fetch's first burst.
_START = 9
#: Cycles from the fetch of an instruction to its start in an idle engine.
_DISPATCH = 6
#: Cycles from a semaphore's signal to the start that waited for it.
_SIGNAL = 4
#: Cycles from an engine's acceptance of an instruction to the next one's being offered.
_CLAIM = 2
#: Cycles from the end of the last instruction to the interrupt.
_END = 4


@dataclass(frozen=True)
class Estimate:
    """Cycles of a program, when each instruction ran, and the cycles in which each engine worked."""

    cycles: int
    slots: list[Slot]
    busy: dict[Engine, int]


class _ReadBus:
    """Bursts in their order, at most ``outstanding_reads`` of which are under way.

    Attributes
    ----------
    left, ends : list of int
        When each got leave to go, and when its last beat has come.
    """

    def __init__(self, config: AcceleratorConfig):
        self._most = config.outstanding_reads
        self.left, self.ends = [[0] * max(self._most, _WAITING_BURSTS) for _ in range(2)]

    def load(self, wanted: int, cycles: int) -> int:
        """When a load's burst has come that was wanted in cycle ``wanted``, and whose beats take ``cycles``."""
        leave = max(wanted, self.left[-1] + 1, self.ends[-self._most] + 1)
        end = max(leave + _READ_LATENCY, self.ends[-1]) + cycles
        self.left.append(leave)
        self.ends.append(end)
        return end

    def fetch(self, wanted: int, cycles: int) -> int:
        """The same of the fetch, which goes before the loads that have no leave yet."""
        place = len(self.left)
        while place > 1 and self.left[place - 1] > wanted:
            place -= 1
        leave = max(wanted, self.ends[max(0, place - self._most)] + 1)
        end = max(leave + _READ_LATENCY, self.ends[place - 1]) + cycles
        self.ends[place:] = [other + cycles for other in self.ends[place:]]
        self.left.insert(place, leave)
        self.ends.insert(place, end)
        return end


class _TransferCycles:
    """The load and the store engine."""

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.reads = _ReadBus(config)
        self.write_bus = 0
        self._rows = [0, 0]  # when the bursts of the last two rows were begun

    def _beats(self, f: dict[str, int]) -> int:
        return f["count"] * ceil_div(f["words"] * self.config.word_bytes, self.config.bus_bytes)

    def _moving(self, f: dict[str, int]) -> int:
        """Cycles in which a transfer moves a beat or a word, whichever is smaller."""
        return max(f["count"] * f["words"], self._beats(f))

    def _bursts(self, f: dict[str, int]) -> Iterator[list[int]]:
        """The beats of the bursts of each row; bursts don't cross a multiple of ``BURST_BEATS`` beats."""
        shift = self.config.bus_bytes
        first, stride = f["dram_address"] // shift, f.get("dram_stride", 0) // shift
        row = ceil_div(f["words"] * self.config.word_bytes, shift)
        for index in range(f["count"]):
            begin = (first + index * stride) % BURST_BEATS
            end = begin + row
            yield [min(end, chunk + BURST_BEATS) - max(begin, chunk) for chunk in range(0, end, BURST_BEATS)]

    def load(self, f: dict[str, int], ready: int) -> Slot:
        accepted = max(ready, self._rows[0] + 2)
        words = max(1, self.config.bus_bytes // self.config.word_bytes)  # of a beat, stored one a cycle
        start = end = 0
        for row in self._bursts(f):
            begun = max(accepted, self.reads.left[-_WAITING_BURSTS])
            self._rows = [self._rows[1], begun]
            for beats in row:
                end = self.reads.load(accepted + _TO_BUS, beats * words)
                start = start or end - beats * words
        return Slot(accepted, start, end, end + _STORED)

    def store(self, f: dict[str, int], ready: int) -> Slot:
        start = max(ready, self.write_bus)
        end = start + self._moving(f) + 4
        self.write_bus = end
        return Slot(ready, start, end, end + _WRITE_LATENCY)


class _Fetch:
    """The instructions, as they are fetched and decoded."""

    def __init__(self, config: AcceleratorConfig, reads: _ReadBus):
        self._reads = reads
        self._beats = max(1, INSTRUCTION_BYTES // config.bus_bytes)
        self._ready = 0
        self._blocks = deque(self._block(_START + index) for index in range(2))
        self._arrives = 0

    def _block(self, wanted: int) -> int:
        return self._reads.fetch(wanted, PREFETCH * self._beats) - PREFETCH * self._beats

    def next(self, index: int, room: int) -> int:
        """When instruction ``index`` gets into its engine's queue, where there is ``room`` from a cycle on."""
        if index % PREFETCH == 0:
            if index:
                self._blocks.append(self._block(self._ready))
            self._arrives = self._blocks.popleft()
        self._ready = max(self._ready + self._beats, self._arrives + (index % PREFETCH + 1) * self._beats, room)
        return self._ready


class _Walk:
    """The sequencer with its queues, and the engines."""

    def __init__(self, config: AcceleratorConfig, program: Sequence[Instruction], edges: Sequence[Edge]):
        halves, self._tiles = Halves(), BankReads(config)
        self._program = program
        self._transfers = _TransferCycles(config)
        self._matmul = MatmulCycles(config, halves, self._tiles)
        self._vector = VectorCycles(config, halves, self._tiles, self._matmul)
        self._fetch = _Fetch(config, self._transfers.reads)
        self._producers: dict[int, list[int]] = {}
        for edge in edges:
            self._producers.setdefault(edge.consumer, []).append(edge.producer)
        # Of each queue: when its places become free, and what is in it, and since when.
        self._room = {engine: deque([0] * config.queue_depth) for engine in Engine}
        self._queues: dict[Engine, deque[tuple[int, int]]] = {engine: deque() for engine in Engine}
        self._accepted = dict.fromkeys(Engine, 0)
        self._fetched = 0
        self.slots: dict[int, Slot] = {}

    def _fill(self) -> None:
        """Fetch up to an instruction whose queue is full, or END."""
        while self._fetched < len(self._program):
            engine = self._program[self._fetched].engine
            if engine is None or not self._room[engine]:
                break
            entered = self._fetch.next(self._fetched, self._room[engine].popleft())
            self._queues[engine].append((self._fetched, entered))
            self._fetched += 1

    def _heads(self) -> Iterator[tuple[int, int, int, Engine]]:
        """Of each engine whose next instruction's predecessors are known: when it can begin with that, when that is
        offered to it, and the instruction's index."""
        free = {Engine.MATMUL: self._matmul.free, Engine.VECTOR: self._vector.free}
        for engine, queue in self._queues.items():
            if not queue:
                continue
            index, entered = queue[0]
            producers = self._producers.get(index, ())
            if all(producer in self.slots for producer in producers):
                ready = max([entered + _DISPATCH, self._accepted[engine] + _CLAIM,
                             *(self.slots[producer].finished + _SIGNAL for producer in producers)])
                yield max(ready, free.get(engine, 0)), index, ready, engine

    def _run(self, instruction: Instruction, ready: int) -> Slot:
        fields, function = instruction.fields, instruction.function
        if instruction.engine is Engine.LOAD:
            return self._transfers.load(fields, ready)
        if instruction.engine is Engine.MATMUL:
            return self._matmul.run(fields, ready)
        if function is not None:
            return self._vector.run(function, fields, ready)
        slot = self._transfers.store(fields, ready)
        words = fields["count"] * fields["words"]
        self._matmul.wait_for(self._tiles.banks(fields["scratchpad"], 1, words), slot.start, slot.end, words)
        return slot

    def step(self) -> bool:
        """Run the next instruction, if there is one."""
        self._fill()
        heads = list(self._heads())
        if heads:
            _, index, ready, engine = min(heads)
            self._queues[engine].popleft()
            self._room[engine].append(ready)
            slot = self.slots[index] = self._run(self._program[index], ready)
            self._accepted[engine] = slot.accepted
        elif self._fetched < len(self._program):
            end = max((slot.finished for slot in self.slots.values()), default=0)
            self.slots[self._fetched] = Slot(end, end, end, end + _END)
            self._fetched += 1
        else:
            return False
        return True


def estimate(config: AcceleratorConfig, program: Sequence[Instruction], edges: Sequence[Edge]) -> Estimate:
    """Predict the cycles of a synchronised program, from doorbell to interrupt."""
    walk = _Walk(config, program, edges)
    while walk.step():
        pass
    slots = [walk.slots[index] for index in range(len(program))]
    busy = {engine: sum(slot.end - slot.start for slot, instruction in zip(slots, program, strict=True)
                        if instruction.engine is engine) for engine in Engine}
    return Estimate(slots[-1].finished if slots else 0, slots, busy)
