"""Synchronisation: finds every dependency between engines in a sequential program, and orders them by
semaphores.

Rules
-----
1. The program's order is a valid sequential order: executed one by one, its instructions give the right
   result.
2. Where two instructions of different engines touch the same word and at least one writes it, the later one
   starts after the earlier one has finished. Instructions of one engine are ordered by the hardware.
3. Each ordered pair of engines has a semaphore of its own. The k-th signal on it belongs to the k-th wait,
   since the edges of a pair ascend strictly at both ends.
4. A semaphore never holds more than its counter can count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...hdl.config import AcceleratorConfig
from ...hdl.isa import SEMAPHORE_BITS, Engine
from .accesses import Access, Space, accesses
from .assembler import Instruction, semaphore_index, semaphore_name

__all__ = ["Edge", "SynchronisationError", "synchronise"]

_ENGINES = len(Engine)
#: Where a semaphore could overflow, a signal waits until this many signals before it have been taken.
_CROWD = (1 << SEMAPHORE_BITS) // 2


class SynchronisationError(RuntimeError):
    """The compiler made a program that semaphores can't order: an internal error."""


@dataclass(frozen=True, slots=True)
class Edge:
    """``consumer`` starts after ``producer`` has finished; both are places in the program's order."""

    producer: int
    consumer: int


class _Memory:
    """For each word the last writer (rows 0 to 3, by engine) and the last readers since (rows 4 to 7)."""

    def __init__(self, start: int, words: int):
        self._start = start
        self._end = start + words
        self._state = np.full((2 * _ENGINES, words), -1, dtype=np.int32)

    def touch(self, access: Access, engine: int, index: int, latest: list[int]) -> None:
        """Raise ``latest`` to the producers that ``access`` depends on, and note the access."""
        start, count, stride, width = access.start, access.count, access.stride, access.width
        if stride == width:
            count, width = 1, count * width
        if start < self._start or start + (count - 1) * stride + width > self._end:
            raise SynchronisationError(
                f"instruction {index} touches {access}, outside {self._start} to {self._end}"
            )
        column, row = self._state.strides[1], self._state.strides[0]
        view: np.ndarray = np.ndarray(
            (2 * _ENGINES, count, width),
            np.int32,
            self._state,
            (start - self._start) * column,
            (row, stride * column, column),
        )
        found = (view if access.write else view[:_ENGINES]).max(axis=(1, 2)).tolist()
        for e in range(len(found)):
            if found[e] > latest[e % _ENGINES]:
                latest[e % _ENGINES] = found[e]
        if access.write:
            view[:] = -1
            view[engine] = index
        else:
            view[_ENGINES + engine] = index


class _DramMemory(_Memory):
    """The same in units of bus beats, for the part of DRAM that the program writes."""

    def __init__(self, start: int, end: int, beat: int):
        self._beat = beat
        super().__init__(start // beat, max(0, -(-end // beat) - start // beat))

    def touch(self, access: Access, engine: int, index: int, latest: list[int]) -> None:
        last = access.start + (access.count - 1) * access.stride + access.width
        if last <= self._start * self._beat:
            return
        first, stride = access.start // self._beat, access.stride // self._beat
        width = -(-access.width // self._beat)
        super().touch(
            Access(access.space, access.write, first, access.count, stride, width), engine, index, latest
        )


def synchronise(
    config: AcceleratorConfig, program: Sequence[Instruction], written: tuple[int, int] = (0, 0)
) -> list[Edge]:
    """Set ``wait``, ``signal`` and ``tag`` of each instruction of ``program`` (END apart).

    Parameters
    ----------
    written
        First and last + 1 DRAM byte that any store may write, multiples of the bus width. Loads from below it
        depend on nothing; no other access may lie outside.

    Returns
    -------
    list of Edge
        The dependencies that were kept: those that no other implies, in the order of their consumers.

    Raises
    ------
    SynchronisationError
        When a semaphore could overflow, or an access lies outside its memory.
    """
    throttles: dict[int, int] = {}
    while True:
        edges, finished = _find_edges(config, program, written, throttles)
        crowded = _crowded_chain(program, edges, finished)
        if crowded is None:
            return edges
        added = {
            late.producer: early.consumer
            for early, late in zip(crowded, crowded[_CROWD:], strict=False)
            if early.consumer < late.producer
        }
        # One in so many is enough: an engine's later instructions start after its earlier ones.
        added = {producer: added[producer] for producer in list(added)[:: _CROWD // 2]}
        if added.items() <= throttles.items():
            semaphore = _semaphore(program, crowded[0])
            raise SynchronisationError(
                f"semaphore {semaphore_name(semaphore)} could count beyond {(1 << SEMAPHORE_BITS) - 1}"
            )
        throttles |= added


def _find_edges(
    config: AcceleratorConfig,
    program: Sequence[Instruction],
    written: tuple[int, int],
    throttles: dict[int, int],
) -> tuple[list[Edge], list[list[int]]]:
    """The edges, set in the instructions, and what has finished when an instruction has finished, by engine.

    ``throttles`` are further dependencies: the producer of each consumer."""
    memories = {
        Space.SCRATCHPAD: _Memory(0, config.scratchpad_words),
        Space.ACCUMULATOR: _Memory(0, config.accumulator_words),
        Space.DRAM: _DramMemory(*written, config.bus_bytes),
    }
    # What is known to have finished, by engine: when an instruction has started, when it has finished.
    started = [[-1] * _ENGINES for _ in range(_ENGINES)]
    finished: list[list[int]] = []
    edges: list[Edge] = []
    for index, instruction in enumerate(program):
        instruction.tag = index & 0xFFFF
        instruction.wait = instruction.signal = 0
        if instruction.engine is None:
            finished.append([-1] * _ENGINES)
            continue
        engine = instruction.engine.value
        latest = [-1] * _ENGINES
        for access in accesses(config, instruction):
            memories[access.space].touch(access, engine, index, latest)
        if index in throttles:
            throttle = program[throttles[index]].engine
            assert throttle is not None
            latest[throttle.value] = max(latest[throttle.value], throttles[index])
        latest[engine] = -1
        known = started[engine]
        # The latest producer first: it most likely implies the others.
        for producer in sorted(latest, reverse=True):
            if producer < 0:
                break
            origin = program[producer].engine
            assert origin is not None
            if producer > known[origin.value]:
                known = [max(pair) for pair in zip(known, finished[producer], strict=True)]
                edges.append(Edge(producer, index))
                bit = 1 << semaphore_index(origin, instruction.engine)
                if program[producer].signal & bit or instruction.wait & bit:
                    raise SynchronisationError(
                        f"two edges at instruction {producer} or {index} on one semaphore"
                    )
                program[producer].signal |= bit
                instruction.wait |= bit
        started[engine] = known
        after = list(known)
        after[engine] = index
        finished.append(after)
    return edges, finished


def _semaphore(program: Sequence[Instruction], edge: Edge) -> int:
    producer, consumer = program[edge.producer].engine, program[edge.consumer].engine
    assert producer is not None
    assert consumer is not None
    return semaphore_index(producer, consumer)


def _crowded_chain(
    program: Sequence[Instruction], edges: Sequence[Edge], finished: list[list[int]]
) -> list[Edge] | None:
    """The edges of a semaphore that breaks rule 4, if there is one: when an edge's producer finishes, which of
    the earlier waits are known to be over?"""
    chains: dict[int, list[Edge]] = {}
    for edge in edges:
        chains.setdefault(_semaphore(program, edge), []).append(edge)
    for semaphore, chain in chains.items():
        consumer_engine = semaphore % _ENGINES
        taken = 0
        for given, edge in enumerate(chain, start=1):
            while chain[taken].consumer <= finished[edge.producer][consumer_engine]:
                taken += 1
            if given - taken >= 1 << SEMAPHORE_BITS:
                return chain
    return None
