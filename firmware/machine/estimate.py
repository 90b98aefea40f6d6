"""A cycle model of the engines: each a queue in order, semaphores between them, costs from the configuration.

It walks through a program once, in its order, and computes when each instruction starts and finishes.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ...hdl.bus.bursts import BURST_BEATS
from ...hdl.config import AcceleratorConfig
from ...hdl.control.fetch import PREFETCH
from ...hdl.functions import TRAITS
from ...hdl.isa import INSTRUCTION_BYTES, ROW_RECORD, Engine, Function
from ...hdl.matmul.array import array_latency
from ...hdl.matmul.feeders import ACCUMULATE_SPACING
from .assembler import Instruction
from .dependencies import Edge
from .geometry import ceil_div

__all__ = ["Estimate", "Slot", "estimate"]

#: Cycles from a read address to the first beat, and from the last beat of a write to its response.
_READ_LATENCY = 40
_WRITE_LATENCY = 20
#: Cycles that an instruction and its data take between a transfer engine's queue and the bus.
_TO_BUS = 8
#: Cycles from a burst's last beat to the next burst in its place, besides the memory's latency.
_BURST = 3
#: Cycles from the fetch of an instruction to its start in an idle engine.
_DISPATCH = 6
#: Cycles from a semaphore's signal to the start that waited for it.
_SIGNAL = 4
#: Cycles that a row of a product takes from its read to its accumulator word, besides those in the array.
_ROW_LATENCY = 12
_VECTOR_LATENCY = 24
#: Cycles from the first beat of a group to that of the next, besides those in which its parameters are read.
_PARAMETER_LATENCY = 28


@dataclass(frozen=True, slots=True)
class Slot:
    """When an instruction had its operands and its engine (``ready``), worked, and had finished."""

    ready: int
    start: int
    end: int
    finished: int


@dataclass(frozen=True)
class Estimate:
    """Cycles of a program, when each instruction ran, and the cycles in which each engine worked."""

    cycles: int
    slots: list[Slot]
    busy: dict[Engine, int]


class _Model:
    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.free = dict.fromkeys(Engine, 0)
        self.read_bus = self.write_bus = 0
        # When each engine last left an accumulator half.
        self.left = {engine: [0, 0] for engine in (Engine.MATMUL, Engine.VECTOR)}
        self.last_function: Function | None = None
        self.last_finished = 0

    def _beats(self, f: dict[str, int]) -> int:
        return f["count"] * ceil_div(f["words"] * self.config.word_bytes, self.config.bus_bytes)

    def _moving(self, f: dict[str, int]) -> int:
        """Cycles in which a transfer moves a beat or a word, whichever is smaller."""
        return max(f["count"] * f["words"], self._beats(f))

    def _bursts(self, f: dict[str, int]) -> int:
        """Bursts of a transfer, which don't cross a multiple of ``BURST_BEATS`` beats."""
        shift = self.config.bus_bytes
        first, stride = f["dram_address"] // shift, f.get("dram_stride", 0) // shift
        row = ceil_div(f["words"] * self.config.word_bytes, shift)
        starts = (first + i * stride for i in range(f["count"]))
        return sum((start % BURST_BEATS + row - 1) // BURST_BEATS + 1 for start in starts)

    def load(self, f: dict[str, int], ready: int) -> Slot:
        start = max(ready + _READ_LATENCY + _TO_BUS, self.read_bus)
        # Bursts are as fast as so many under way hide the latency.
        moving = self._moving(f)
        waits = self._bursts(f) * (_READ_LATENCY + _BURST) + self._beats(f)
        end = start + max(moving, waits // self.config.outstanding_reads)
        self.read_bus = end
        self.free[Engine.LOAD] = max(ready + 1, end - _READ_LATENCY - _TO_BUS)
        return Slot(ready, start, end, end + 5)

    def store(self, f: dict[str, int], ready: int) -> Slot:
        start = max(ready, self.write_bus)
        end = start + self._moving(f) + 4
        self.write_bus = self.free[Engine.STORE] = end
        return Slot(ready, start, end, end + _WRITE_LATENCY)

    def matmul(self, f: dict[str, int], ready: int) -> Slot:
        config = self.config
        half = f["accumulator"] // config.half_words
        free = self.free[Engine.MATMUL]
        # The first tile is shifted in while the instruction before still streams.
        tile = ready + config.cols + 4
        start = max(tile, free, self.left[Engine.VECTOR][half])
        end = start + max(f["m"], config.cols) * f["n_tiles"] * f["k_tiles"]
        finished = end + array_latency(config) + _ROW_LATENCY
        self.free[Engine.MATMUL] = end + ACCUMULATE_SPACING
        self.left[Engine.MATMUL][half] = finished
        return Slot(max(free, ready), start, end, finished)

    def _parameter_words(self, function: Function) -> int:
        traits = TRAITS[function]
        if traits.mask:
            return 1
        return (traits.first + traits.second) * self.config.parameter_words

    def vector(self, function: Function, f: dict[str, int], ready: int) -> Slot:
        half = f["accumulator"] // self.config.half_words
        start = max(ready, self.free[Engine.VECTOR])
        if function is Function.LOAD_ROWS:
            work = max(f["m"], ceil_div(f["m"] * ROW_RECORD.size, self.config.word_bytes))
        else:
            # A group's parameters are fetched when those of the group before have gone down the pipeline.
            group = max(f["m"], self._parameter_words(function) + _PARAMETER_LATENCY)
            work = (f["groups"] - 1) * group + f["m"]
            start = max(start, self.left[Engine.MATMUL][half])
        if TRAITS[function].drains or self.last_function is Function.RESIDUAL:
            start = max(start, self.last_finished + 4)
        end = start + 2 + work
        finished = end + _VECTOR_LATENCY
        self.free[Engine.VECTOR] = end
        self.last_function, self.last_finished = function, finished
        if function is not Function.LOAD_ROWS:
            self.left[Engine.VECTOR][half] = finished
        return Slot(ready, start, end, finished)


def estimate(config: AcceleratorConfig, program: Sequence[Instruction], edges: Sequence[Edge]) -> Estimate:
    """Predict the cycles of a synchronised program, from doorbell to interrupt."""
    model = _Model(config)
    producers: dict[int, list[int]] = {}
    for edge in edges:
        producers.setdefault(edge.consumer, []).append(edge.producer)
    slots: list[Slot] = []
    busy = dict.fromkeys(Engine, 0)
    queues: dict[Engine, deque[int]] = {engine: deque([0] * config.queue_depth) for engine in Engine}
    fetched, beats = _READ_LATENCY, max(1, INSTRUCTION_BYTES // config.bus_bytes)
    for index, instruction in enumerate(program):
        engine = instruction.engine
        if engine is None:
            slots.append(Slot(0, 0, 0, max((slot.finished for slot in slots), default=0) + 4))
            continue
        if index % PREFETCH == 0:
            model.read_bus += PREFETCH * beats  # of the bus that the load engine shares
        fetched = max(fetched + beats, queues[engine].popleft())
        ready = max([fetched + _DISPATCH, *(slots[p].finished + _SIGNAL for p in producers.get(index, ()))])
        ready = max(ready, model.free[engine]) if engine in (Engine.LOAD, Engine.STORE) else ready
        fields = instruction.fields
        if engine is Engine.LOAD:
            slot = model.load(fields, ready)
        elif engine is Engine.STORE:
            slot = model.store(fields, ready)
        elif engine is Engine.MATMUL:
            slot = model.matmul(fields, ready)
        else:
            assert instruction.function is not None
            slot = model.vector(instruction.function, fields, ready)
        queues[engine].append(slot.start)
        busy[engine] += slot.end - slot.start
        slots.append(slot)
    return Estimate(slots[-1].finished if slots else 0, slots, busy)
