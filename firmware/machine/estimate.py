"""A cycle model of the engines: each a queue in order, semaphores between them, costs from the configuration.

It walks through a program once, and computes when each instruction starts and finishes: of all that are fetched and
whose predecessors are known always the one whose engine can have it first.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...hdl.bus.guard import JUDGE_LATENCY
from ...hdl.config import AcceleratorConfig
from ...hdl.control.decoder import DECODE_LATENCY
from ...hdl.control.fetch import ASK_LATENCY, PREFETCH
from ...hdl.control.issue import CLAIM_LATENCY, SIGNAL_LATENCY, UNDER_WAY, queue_depth
from ...hdl.control.sequencer import END_LATENCY, START_LATENCY
from ...hdl.isa import INSTRUCTION_BYTES, Engine
from ...hdl.parts.queues import QUEUE_LATENCY
from .assembler import Instruction
from .cycles import BankReads, Halves, MatmulCycles, Slot, VectorCycles
from .dependencies import Edge
from .transfers import ReadBus, TransferCycles

__all__ = ["Estimate", "Slot", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """Cycles of a program, when each instruction ran, and the cycles in which each engine worked."""

    cycles: int
    slots: list[Slot]
    busy: dict[Engine, int]


class _Fetch:
    """The instructions, as they are fetched and decoded."""

    def __init__(self, config: AcceleratorConfig, reads: ReadBus):
        self._reads = reads
        self._beats = max(1, INSTRUCTION_BYTES // config.bus_bytes)
        self._taken = self._entered = 0  # of the last instruction
        first, again = START_LATENCY + 1, JUDGE_LATENCY + ASK_LATENCY
        self._blocks = deque(self._block(first + index * again) for index in range(2))
        self._arrives = 0

    def asks(self, index: int) -> int:
        """When the block is asked for that is known to be wanted once instruction ``index`` is taken; 0 if none is."""
        return self._taken + ASK_LATENCY if index and index % PREFETCH == 0 else 0

    def _block(self, offered: int) -> int:
        """When the first beat of a block comes."""
        return self._reads.fetch(offered, PREFETCH * self._beats) - PREFETCH * self._beats

    def next(self, index: int, room: int) -> int:
        """When instruction ``index`` gets into its engine's queue, where there is ``room`` from a cycle on."""
        if index % PREFETCH == 0:
            if index:
                self._blocks.append(self._block(self.asks(index)))
            self._arrives = self._blocks.popleft()
        arrived = self._arrives + (index % PREFETCH + 1) * self._beats - 1
        self._taken = max(self._entered + self._beats, arrived + QUEUE_LATENCY)
        self._entered = max(self._taken + 1 + DECODE_LATENCY, room)
        return self._entered


class _Walk:
    """The sequencer with its queues, and the engines."""

    def __init__(self, config: AcceleratorConfig, program: Sequence[Instruction], edges: Sequence[Edge]):
        halves, self._tiles = Halves(), BankReads(config)
        self._program = program
        self._reads = ReadBus(config)
        self._transfers = TransferCycles(config, self._reads)
        self._matmul = MatmulCycles(config, halves, self._tiles)
        self._vector = VectorCycles(config, halves, self._tiles, self._matmul)
        self._fetch = _Fetch(config, self._reads)
        self._producers: dict[int, list[int]] = {}
        for edge in edges:
            self._producers.setdefault(edge.consumer, []).append(edge.producer)
        # Of each queue: when its places become free, and what is in it, and since when.
        self._room = {engine: deque([0] * (queue_depth(config, engine) + 1)) for engine in Engine}
        self._queues: dict[Engine, deque[tuple[int, int]]] = {engine: deque() for engine in Engine}
        self._accepted = dict.fromkeys(Engine, 0)
        self._under_way = {engine: deque([0] * (UNDER_WAY + 1), UNDER_WAY + 1) for engine in Engine}  # their ends
        self._fetched = 0
        self.slots: dict[int, Slot] = {}

    def _fill(self) -> None:
        """Fetch up to an instruction whose queue is full, or END, or a block that is asked for after a load, which has
        the bus before it."""
        while self._fetched < len(self._program):
            engine = self._program[self._fetched].engine
            if engine is None or not self._room[engine]:
                break
            asks = self._fetch.asks(self._fetched)
            if asks and any(engine is Engine.LOAD and ready < asks for _, _, ready, engine in self._heads()):
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
                ready = max([entered + QUEUE_LATENCY + 1,
                             max(self._accepted[engine], self._under_way[engine][0]) + CLAIM_LATENCY,
                             *(self.slots[producer].finished + SIGNAL_LATENCY for producer in producers)])
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
            slot = self.slots[index] = self._run(self._program[index], ready)
            self._room[engine].append(slot.accepted + 1)
            self._accepted[engine] = slot.accepted
            self._under_way[engine].append(slot.finished)
        elif self._fetched < len(self._program):
            decoded = self._fetch.next(self._fetched, 0)
            end = max([decoded, self._reads.end, *(slot.finished for slot in self.slots.values())])
            self.slots[self._fetched] = Slot(decoded, end, end, end + END_LATENCY)
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
