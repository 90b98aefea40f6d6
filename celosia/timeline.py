"""What each engine did when: from the cycles of a simulation to a trace that Perfetto and Chrome open."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from celosia.firmware.machine.assembler import Instruction
from celosia.generators.observer import OBSERVED
from celosia.hdl.isa import Engine
from celosia.hdl.registers import COUNTERS, LOSSES
from numpy.typing import NDArray

__all__ = ["TRACE_WINDOW", "Span", "Timeline", "trace"]

#: Cycles over which a trace averages the use of the buses and the array.
TRACE_WINDOW = 1024

#: What is seen some cycles after the cycle that it is about.
_LATER = {"array_active": 2, **dict.fromkeys(LOSSES, 2), **{
    f"{engine.name.lower()}_{state}": 1 for engine in Engine for state in ("busy", "wait")}}


@dataclass(frozen=True)
class Span:
    """``name`` on a track, from cycle ``start`` up to, not including, cycle ``end``."""

    name: str
    start: int
    end: int
    index: int = -1


class Timeline:
    """A program's run.

    Parameters
    ----------
    observed : array of uint32 [cycles]
        The bits of :data:`~celosia.generators.observer.OBSERVED` in each cycle.
    instructions : sequence of Instruction
        The program.

    Attributes
    ----------
    cycles : int
        From the first cycle of the program to the last.
    engines : dict of Engine to list of Span
        For each instruction, when it was the oldest one under way in its engine.
    losses : list of Span
        Cycles in which no row of A entered the array, with the name of the cause.
    """

    def __init__(self, observed: NDArray[np.uint32], instructions: Sequence[Instruction]):
        self._observed = observed
        running = np.flatnonzero(self._bits("cycles"))
        if not len(running):
            raise ValueError("no program ran in the cycles that were observed")
        self._first = int(running[0])
        self.cycles = len(running)
        self.engines = {engine: self._engine(engine, instructions) for engine in Engine}
        self.losses = sorted((span for name in LOSSES for span in self._runs(name)), key=lambda span: span.start)

    def _numbers(self, name: str) -> NDArray[np.uint32]:
        names = list(OBSERVED)
        numbers = self._observed >> names.index(name)
        if name != names[-1]:
            numbers = numbers & 1
        return np.roll(numbers, -_LATER.get(name, 0))

    def _bits(self, name: str) -> NDArray[np.bool_]:
        return self._numbers(name) != 0

    def _cycles(self, name: str) -> NDArray[np.int64]:
        return np.flatnonzero(self._bits(name)) - self._first

    def _engine(self, engine: Engine, instructions: Sequence[Instruction]) -> list[Span]:
        name = engine.name.lower()
        own = [(index, instruction) for index, instruction in enumerate(instructions) if instruction.engine is engine]
        accepts, finishes = self._cycles(f"{name}_accepts") + 1, self._cycles(f"{name}_finishes") + 1
        if not len(accepts) == len(finishes) == len(own):
            raise ValueError(f"the {name} engine must have run {len(own)} instructions, not {len(finishes)}")
        starts = np.maximum(accepts, np.concatenate([[0], finishes[:-1]])) if len(own) else accepts
        return [Span(instruction.comment or instruction.opcode.name, int(start), int(end), index)
                for (index, instruction), start, end in zip(own, starts, finishes, strict=True)]

    def _runs(self, name: str) -> Iterator[Span]:
        """The longest spans in which the bit ``name`` is set."""
        edges = np.flatnonzero(np.diff(self._bits(name).astype(np.int8), prepend=0, append=0)) - self._first
        for start, end in edges.reshape(-1, 2):
            yield Span(name, int(start), int(end))

    def totals(self) -> dict[str, int]:
        """How often each event of ``COUNTERS`` was seen, and how many words were written; a counter has the same
        number, in steps of its unit."""
        return {name: int(self._numbers(name).sum()) for name, _doc in COUNTERS}

    def use(self, name: str, window: int = TRACE_WINDOW) -> NDArray[np.float64]:
        """The share of each ``window`` cycles in which the event ``name`` of ``COUNTERS`` was seen."""
        bits = self._bits(name)[self._first:self._first + self.cycles]
        starts = np.arange(0, self.cycles, window)
        shares: NDArray[np.float64] = np.add.reduceat(bits.astype(np.int64), starts) / np.diff(
            starts, append=self.cycles)
        return shares


_ENGINE_TRACKS = {engine: 1 + engine.value for engine in Engine}
_LOSS_TRACK = 1 + len(Engine)
_USES = {"array_active": "array", "read_bytes": "read bus", "write_bytes": "write bus"}


def _events(timelines: Sequence[Timeline]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": "accelerator (1 us is a cycle)"}}
    names = {track: f"{engine.name.lower()} engine" for engine, track in _ENGINE_TRACKS.items()}
    for track, name in {**names, _LOSS_TRACK: "array: why no row enters"}.items():
        yield {"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": 1, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}

    def slices(track: int, spans: Sequence[Span], begin: int) -> Iterator[dict[str, Any]]:
        for span in spans:
            event: dict[str, Any] = {"ph": "X", "pid": 1, "tid": track, "name": span.name, "ts": begin + span.start,
                                     "dur": span.end - span.start}
            if span.index >= 0:
                event["args"] = {"instruction": span.index}
            yield event

    begin = 0
    for timeline in timelines:
        for engine, track in _ENGINE_TRACKS.items():
            yield from slices(track, timeline.engines[engine], begin)
        yield from slices(_LOSS_TRACK, timeline.losses, begin)
        for name, label in _USES.items():
            for window, share in enumerate(timeline.use(name)):
                yield {"ph": "C", "pid": 1, "name": label, "ts": begin + window * TRACE_WINDOW,
                       "args": {"%": round(100 * float(share), 2)}}
        begin += timeline.cycles


def trace(timelines: Sequence[Timeline], about: Mapping[str, Any]) -> dict[str, Any]:
    """A trace in Chrome's JSON format, which Perfetto opens too. The programs follow each other without the time
    between them; ``about`` goes into the trace's ``otherData``."""
    return {"displayTimeUnit": "ns", "otherData": dict(about), "traceEvents": list(_events(timelines))}
