"""Whether semaphores alone order every conflicting access of a program: happens-before by vector clocks.

Rules
-----
1. Of two instructions of one engine, the earlier counts as finished for the later: the engine sees to it.
2. The k-th wait on a semaphore takes the k-th signal, since one engine gives them all and one takes them all.
3. Where two engines touch the same place and at least one writes it, the later instruction must start after
   the earlier has finished, by a chain of signals and waits.
4. No order in which the engines may run lets a semaphore count beyond its range.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..hdl.isa import SEMAPHORE_BITS, SEMAPHORES, Engine, semaphore_engines

__all__ = ["Access", "RaceChecker", "RaceError", "Space"]

_Clock = list[int]


class RaceError(RuntimeError):
    """A program whose result depends on which engine is faster."""


class Space(Enum):
    """A memory that more than one engine uses, and what one place of it is called."""

    SCRATCHPAD = "scratchpad word"
    ACCUMULATOR = "accumulator word"
    DRAM = "DRAM byte"


@dataclass(frozen=True, slots=True)
class Access:
    """Places that an instruction reads or writes."""

    space: Space
    write: bool
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _History:
    """For each engine and place, the last instruction that read and wrote it, counted from 1; 0: none."""

    read: NDArray[np.int32]
    written: NDArray[np.int32]

    @classmethod
    def empty(cls, places: int) -> "_History":
        shape = (len(Engine), places)
        return cls(np.zeros(shape, np.int32), np.zeros(shape, np.int32))


class RaceChecker:
    """Watches a program being executed in program order.

    Parameters
    ----------
    places
        How many places each memory has.
    dram_base, dram_unit
        For messages: DRAM place p is byte ``dram_base + p * dram_unit``.
    """

    def __init__(self, places: dict[Space, int], dram_base: int = 0, dram_unit: int = 1):
        self._histories = {space: _History.empty(count) for space, count in places.items()}
        self._dram_base, self._dram_unit = dram_base, dram_unit
        self._names: list[str] = []
        # What is known to have finished when an engine's last instruction started.
        self._known: list[_Clock] = [[0] * len(Engine) for _ in range(len(Engine))]
        self._tokens: list[deque[_Clock]] = [deque() for _ in range(SEMAPHORES)]
        self._given = [0] * SEMAPHORES
        self._taken: list[list[int]] = [[] for _ in range(SEMAPHORES)]

    def observe(self, engine: Engine, name: str, wait: int, signal: int, accesses: Sequence[Access]) -> None:
        """The next instruction of the program: its masks of semaphores, which are its engine's, and what it touches.

        Raises
        ------
        RaceError
            When one of the rules is broken. The message names both instructions.
        """
        now = len(self._names) + 1
        self._names.append(name)
        number = engine.value
        known = self._known[number]
        for semaphore in _bits(wait):
            known = [max(pair) for pair in zip(known, self._tokens[semaphore].popleft(), strict=True)]
            self._taken[semaphore].append(now)
        self._known[number] = known
        for access in accesses:
            self._check(access, number, known)
        for access in accesses:
            history = self._histories[access.space]
            (history.written if access.write else history.read)[number, access.places] = now
        finished = list(known)
        finished[number] = now
        for semaphore in _bits(signal):
            self._tokens[semaphore].append(finished)
            self._count(semaphore, finished)

    def _check(self, access: Access, number: int, known: _Clock) -> None:
        history = self._histories[access.space]
        for table in (history.written, history.read) if access.write else (history.written,):
            for other, limit in enumerate(known):
                if other == number:
                    continue
                last = table[other, access.places]
                if last.size and last.max() > limit:
                    self._race(access, table is history.written, last > limit, last)

    def _race(self, access: Access, written: bool, late: NDArray[np.bool_], last: NDArray[np.int32]) -> None:
        worst = int(np.argmax(late))
        place = int(access.places[worst])
        if access.space is Space.DRAM:
            place = self._dram_base + place * self._dram_unit
        earlier = self._names[int(last[worst]) - 1]
        raise RaceError(
            f"{self._names[-1]} {'writes' if access.write else 'reads'} {access.space.value} {place}, which "
            f"{earlier} {'writes' if written else 'reads'}, and no semaphore orders them")

    def _count(self, semaphore: int, finished: _Clock) -> None:
        """Rule 4: of the signals given so far, at least those have been taken whose waits have finished."""
        self._given[semaphore] += 1
        _giver, taker = semaphore_engines(semaphore)
        taken = bisect_right(self._taken[semaphore], finished[taker.value])
        if self._given[semaphore] - taken >= 1 << SEMAPHORE_BITS:
            raise RaceError(f"semaphore {semaphore} must not exceed {(1 << SEMAPHORE_BITS) - 1}, "
                            f"but may reach {self._given[semaphore] - taken} after {self._names[-1]}")


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(SEMAPHORES) if mask >> bit & 1]
