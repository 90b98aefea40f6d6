"""Packing of scratchpad regions that live in different phases of a layer."""

from collections.abc import Collection, Sequence
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
    """``words`` consecutive scratchpad words during ``phases``, at ``address`` once packed. What lies before its
    word ``cut``, if that is not 0, is read together with what lies behind."""

    name: str
    words: int
    phases: Phase
    address: int = -1
    cut: int = 0
    #: Regions that share words with this one, itself included.
    overlaps: list["Region"] = field(default_factory=list, repr=False)
    #: Last recorded operation that uses it.
    last_use: int = -1

    @property
    def end(self) -> int:
        """First word behind it."""
        return self.address + self.words

    @property
    def kind(self) -> str:
        """The first word of its name, which several may share."""
        return self.name.split()[0]


def pack(
    regions: Sequence[Region], bank_words: int = 1, read_together: Collection[tuple[str, str]] = ()
) -> int:
    """Give each region an address, so that no two overlap in a phase that both live in; returns the words
    used.

    Regions of two kinds that are ``read_together`` have no words in the same bank of ``bank_words`` words in a phase
    that both live in; if a kind is read together with itself, a region's cut lies between two banks, too. The largest
    region goes first, each to the lowest address where it fits.
    """
    together = {*read_together, *((b, a) for a, b in read_together)}
    placed: list[Region] = []
    for region in sorted(regions, key=lambda r: -r.words):
        taken: list[tuple[int, int]] = []
        for other in placed:
            if other.phases & region.phases:
                unit = bank_words if (region.kind, other.kind) in together else 1
                taken.append((other.address // unit * unit, -(-other.end // unit) * unit))
        step = bank_words if region.cut and (region.kind, region.kind) in together else 1
        address = first = -region.cut % step
        for low, high in sorted(taken):
            if low - address >= region.words:
                break
            address = max(address, high)
            address += (first - address) % step
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
