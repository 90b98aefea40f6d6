"""A cycle model of the engines: each a queue in order, semaphores between them, costs from the configuration.

It walks through a program once, in its order, and computes when each instruction starts and finishes.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..hdl.config import AcceleratorConfig
from ..hdl.isa import INSTRUCTION_BYTES, ROW_RECORD, Engine, Function
from .assembler import Instruction
from .compiler import Program
from .dependencies import Edge
from .geometry import ceil_div

__all__ = ["Estimate", "Slot", "bound", "estimate", "macs"]

#: Cycles from a read address to the first beat, and from the last beat of a write to its response.
_READ_LATENCY = 40
_WRITE_LATENCY = 20
#: Cycles from the fetch of an instruction to its start in an idle engine.
_DISPATCH = 6
#: Cycles from a semaphore's signal to the start that waited for it.
_SIGNAL = 4
_VECTOR_LATENCY = 24
#: Pairs of functions between which the vector engine drains.
_DRAINS = {
    (Function.ROW_MAXIMUM, Function.EXPONENTIAL),
    (Function.EXPONENTIAL, Function.ATTENTION_OUTPUT),
    (Function.RESIDUAL, Function.LAYER_NORM),
    (Function.LOAD_ROWS, Function.ROW_REQUANTISE),
}


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

    def load(self, f: dict[str, int], ready: int) -> Slot:
        start = max(ready + _READ_LATENCY, self.read_bus)
        end = start + self._beats(f)
        self.read_bus = end
        self.free[Engine.LOAD] = max(ready + 1, end - _READ_LATENCY)
        return Slot(ready, start, end, end + 4)

    def store(self, f: dict[str, int], ready: int) -> Slot:
        start = max(ready, self.write_bus)
        end = start + self._beats(f) + 4
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
        finished = end + config.rows + config.cols + 14
        self.free[Engine.MATMUL] = end
        self.left[Engine.MATMUL][half] = finished
        return Slot(max(free, ready), start, end, finished)

    def vector(self, function: Function, f: dict[str, int], ready: int) -> Slot:
        half = f["accumulator"] // self.config.half_words
        start = max(ready, self.free[Engine.VECTOR])
        if function is Function.LOAD_ROWS:
            work = max(f["m"], ceil_div(f["m"] * ROW_RECORD.size, self.config.word_bytes))
        else:
            work = f["m"] * f["groups"]
            start = max(start, self.left[Engine.MATMUL][half])
        if (self.last_function, function) in _DRAINS:
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


def macs(program: Program) -> int:
    """Multiply-accumulates of the batch, of the true sizes: padding is none."""
    g, tokens = program.geometry, sum(program.lengths)
    return g.layers * (
        tokens * (4 * g.hidden * g.hidden + 2 * g.hidden * g.ffn)
        + 2 * g.hidden * sum(length * length for length in program.lengths)
    )


def bound(program: Program) -> int:
    """Cycles that no design of this size can beat for the batch: products of the true sizes on every PE, or
    weights, parameters, inputs and outputs over the bus, each once."""
    g, config = program.geometry, program.geometry.config
    parameters = 8 * (10 * g.hidden + 2 * g.ffn) + 4 * g.hidden
    weights = 4 * g.hidden * g.hidden + 2 * g.hidden * g.ffn
    moved = g.layers * (weights + parameters) + 2 * sum(program.lengths) * g.hidden
    return max(ceil_div(macs(program), config.macs_per_cycle), ceil_div(moved, config.bus_bytes))
