"""Packing of scratchpad regions that live in different phases of a layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntFlag

__all__ = ["Phase", "Region", "Ring", "pack"]


class Phase(IntFlag):
    """The parts of a layer; a region holds its words in one or more of them."""

    PROJECT = 1
    #: Attention has begun, and the projections have not ended.
    OVERLAP = 2
    ATTEND = 4
    TRANSFORM = 8
    ALL = 15


@dataclass(eq=False, slots=True)
class Region:
    """``words`` consecutive scratchpad words during ``phases``, at ``address`` once packed."""

    name: str
    words: int
    phases: Phase
    address: int = -1
    #: Regions that share words with this one, itself included.
    overlaps: list["Region"] = field(default_factory=list, repr=False)
    #: Last recorded operation that uses it.
    last_use: int = -1

    @property
    def end(self) -> int:
        """First word behind it."""
        return self.address + self.words


def pack(regions: Sequence[Region]) -> int:
    """Give each region an address, so that no two overlap in a phase that both live in; returns the words
    used.

    The largest region goes first, each to the lowest address where it fits.
    """
    placed: list[Region] = []
    for region in sorted(regions, key=lambda r: -r.words):
        others = sorted((p for p in placed if p.phases & region.phases), key=lambda p: p.address)
        address = 0
        for other in others:
            if other.address - address >= region.words:
                break
            address = max(address, other.end)
        region.address = address
        placed.append(region)
    for region in placed:
        region.overlaps = [p for p in placed if p.address < region.end and region.address < p.end]
    return max((region.end for region in placed), default=0)


class Ring:
    """Allocator of short-lived buffers: each goes to the next gap that is large enough, going round and
    round, so that the words that were freed longest ago are used first."""

    def __init__(self, start: int, words: int):
        self._start = start
        self._end = start + words
        self._next = start
        self._live: list[tuple[int, int]] = []  # (address, end), ascending

    @property
    def buffers(self) -> int:
        """How many buffers are in it."""
        return len(self._live)

    def rewind(self) -> None:
        """The next buffer goes to the lowest gap that is large enough."""
        self._next = self._start

    def allocate(self, words: int) -> int | None:
        """Address of ``words`` free words; None when there are none in one piece."""
        low = self._gap(self._next, words)
        if low is None:
            low = self._gap(self._start, words)
        if low is None:
            return None
        self._live.append((low, low + words))
        self._live.sort()
        self._next = low + words
        return low

    def _gap(self, low: int, words: int) -> int | None:
        for start, end in self._live:
            if end <= low:
                continue
            if start - low >= words:
                break
            low = end
        return low if low + words <= self._end else None

    def free(self, address: int) -> None:
        """Give back the buffer at ``address``."""
        self._live = [live for live in self._live if live[0] != address]
