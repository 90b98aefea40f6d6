"""How long transfers take: a model of the bursts of the load and the store engine, and of the fetch's.

A burst is *offered* to the guard, which has *taken* it, and *leaves* for the bus when its verdict is taken; its last
beat has come, or was *sent*, in the cycle before its *end*.
"""

from collections import deque
from collections.abc import Iterator

from ...hdl.bus.bursts import BURST_BEATS, ROW_LATENCY
from ...hdl.bus.guard import JUDGE_LATENCY
from ...hdl.bus.write_channel import OUTSTANDING_WRITES
from ...hdl.config import AcceleratorConfig
from ...hdl.memory.interfaces import READ_LATENCY
from ...hdl.parts.queues import QUEUE_LATENCY
from .cycles import Slot
from .geometry import ceil_div

__all__ = ["ReadBus", "TransferCycles"]

#: Of the memory: cycles from an address to its first beat, and from the last beat of a write to its response.
_READ, _WRITE = 40, 10
#: Cycles from a burst's leave to its address on the bus.
_ADDRESS = 1
#: Cycles from the end of a load's last burst to the end of the load: the word is stored.
_STORED = 1
#: Cycles from a store's acceptance to its first read of the scratchpad, and from a read to the word for the bus.
_READS = QUEUE_LATENCY + 2
_READ_WORD = READ_LATENCY + QUEUE_LATENCY
#: Words that a store reads ahead.
_AHEAD = READ_LATENCY + 4
_NEVER = -1000  # so long ago that nothing waits for it


class ReadBus:
    """Bursts in their order, at most ``outstanding_reads`` of which are under way. The fetch's go before loads that are
    not taken yet."""

    def __init__(self, config: AcceleratorConfig):
        self._most = config.outstanding_reads
        # Of each burst, whether it is the fetch's, and when it was taken, left, and ended.
        self._fetches = [False] * (self._most + 1)
        self._taken, self._left, self._ends = ([_NEVER] * (self._most + 1) for _ in range(3))

    def load(self, offered: int, cycles: int) -> tuple[int, int]:
        """When a load's burst that is offered in cycle ``offered`` is taken, and when it ends; its beats take
        ``cycles``."""
        place = len(self._left)
        while self._fetches[place - 1] and self._taken[place - 1] > max(offered, self._left[place - 2] + 1):
            place -= 1
        return self._insert(place, False, offered, cycles)

    def fetch(self, offered: int, cycles: int) -> int:
        """When a burst of the fetch ends."""
        place = len(self._left)
        while self._taken[place - 1] >= offered:
            place -= 1
        return self._insert(place, True, offered, cycles)[1]

    @property
    def end(self) -> int:
        """When the last burst ends."""
        return self._ends[-1]

    def _insert(self, place: int, fetches: bool, offered: int, cycles: int) -> tuple[int, int]:
        taken = max(offered, self._left[place - 1] + 1)
        left = max(taken + JUDGE_LATENCY, self._ends[place - self._most])
        end = max(left + _ADDRESS + _READ, self._ends[place - 1]) + cycles
        self._ends[place:] = [other + cycles for other in self._ends[place:]]
        self._fetches.insert(place, fetches)
        for of_all, of_this in ((self._taken, taken), (self._left, left), (self._ends, end)):
            of_all.insert(place, of_this)
        return taken, end


class TransferCycles:
    """The load and the store engine."""

    def __init__(self, config: AcceleratorConfig, reads: ReadBus):
        self._config, self._reads = config, reads
        self._words = max(1, config.bus_bytes // config.word_bytes)  # of a beat, moved one a cycle
        # Of either engine: when its last row was begun, and its last burst taken.
        self._load_begun = self._load_taken = self._store_begun = self._store_taken = _NEVER
        self._store_left = self._sent = self._word = _NEVER
        self._answers = deque([_NEVER] * OUTSTANDING_WRITES, OUTSTANDING_WRITES)

    def load(self, f: dict[str, int], ready: int) -> Slot:
        """The instruction with the fields ``f``, whose semaphores were there in cycle ``ready``."""
        accepted = max(ready, self._load_begun + ROW_LATENCY)
        start = end = 0
        for row in self._bursts(f):
            self._load_begun = max(accepted, self._load_taken) + 1
            offered = self._load_begun + ROW_LATENCY
            for beats in row:
                self._load_taken, end = self._reads.load(offered, beats * self._words)
                offered = self._load_taken + 1
                start = start or end - beats * self._words
        return Slot(accepted, start, end, end + _STORED)

    def store(self, f: dict[str, int], ready: int) -> Slot:
        """The instruction with the fields ``f``, whose semaphores were there in cycle ``ready``."""
        accepted = max(ready, self._store_begun + ROW_LATENCY)
        start = accepted + _READS
        self._word = max(self._word, start + _READ_WORD)  # when the next word is there
        for row in self._bursts(f):
            self._store_begun = max(accepted, self._store_taken) + 1
            offered = self._store_begun + ROW_LATENCY
            for beats in row:
                self._store_taken = max(offered, self._store_left + 1)
                self._store_left = max(self._store_taken + JUDGE_LATENCY, self._sent + 1, self._answers[0] + 1)
                cycles = beats * self._words
                self._sent = max(self._store_left + 1, self._word) + cycles - (self._words == 1)
                self._word = max(self._word + cycles, self._sent + 1 - _AHEAD)
                self._answers.append(self._sent + 1 + _WRITE)
                offered = self._store_taken + 1
        return Slot(accepted, start, max(start + 1, self._sent - _READ_WORD), self._answers[-1] + 1)

    def _bursts(self, f: dict[str, int]) -> Iterator[list[int]]:
        """The beats of the bursts of each row; bursts don't cross a multiple of ``BURST_BEATS`` beats."""
        shift = self._config.bus_bytes
        first, stride = f["dram_address"] // shift, f.get("dram_stride", 0) // shift
        row = ceil_div(f["words"] * self._config.word_bytes, shift)
        for index in range(f["count"]):
            begin = (first + index * stride) % BURST_BEATS
            end = begin + row
            yield [min(end, chunk + BURST_BEATS) - max(begin, chunk) for chunk in range(0, end, BURST_BEATS)]
