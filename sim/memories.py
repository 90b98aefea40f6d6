"""The memories of the functional machine, with the checks that every access passes."""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..hdl.config import AcceleratorConfig
from .races import Access, Space

__all__ = ["Memories", "RuleError"]

Places = NDArray[np.int64]


class RuleError(ValueError):
    """A rule that an instruction breaks, and the value. The interpreter adds which instruction it is."""


class Memories:
    """Scratchpad, accumulators and the view of DRAM.

    Attributes
    ----------
    trace : list of Access, or None
        Where every access is noted, unless None.
    program : (int, int)
        DRAM bytes of the program so far, which no store may touch.
    """

    def __init__(self, config: AcceleratorConfig, seed: int | None):
        self._config = config
        shapes = (config.scratchpad_words, config.word_bytes), (config.accumulator_words, config.cols)
        if seed is None:
            self.scratchpad: NDArray[np.uint8] = np.zeros(shapes[0], np.uint8)
            self.accumulators: NDArray[np.int32] = np.zeros(shapes[1], np.int32)
        else:
            rng = np.random.default_rng(seed)
            self.scratchpad = rng.integers(0, 2**8, shapes[0], dtype=np.uint8)
            self.accumulators = rng.integers(-(2**29), 2**29, shapes[1], dtype=np.int32)
        #: Scratchpad words that hold a result of the vector engine.
        self.computed: NDArray[np.bool_] = np.zeros(config.scratchpad_words, np.bool_)
        self.trace: list[Access] | None = None
        self.program = (0, 0)
        #: Bytes that are either all touched by a transfer or not at all.
        self.dram_unit = min(config.bus_bytes, config.word_bytes)
        self._dram: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._base, self._window = 0, (0, 0)

    def attach(self, memory: NDArray[np.uint8], base: int, window: tuple[int, int]) -> None:
        """Take ``memory`` as the DRAM from byte ``base`` on, of which ``window`` may be touched."""
        self._dram, self._base, self._window = memory, base, window

    def places(self) -> dict[Space, int]:
        """How many places each memory has, for the race checker."""
        return {Space.SCRATCHPAD: len(self.scratchpad), Space.ACCUMULATOR: len(self.accumulators),
                Space.DRAM: self._dram.size // self.dram_unit + 1}

    def _note(self, space: Space, write: bool, places: Places) -> None:
        if self.trace is not None:
            self.trace.append(Access(space, write, places.ravel()))

    def area(
        self, space: Space, name: str, start: int, count: int, stride: int, width: int, write: bool,
    ) -> Places:
        """Words [count, width] of ``count`` rows, ``stride`` apart; ``name`` is the field's, for messages."""
        limit = len(self.scratchpad if space is Space.SCRATCHPAD else self.accumulators)
        last = start + (count - 1) * stride + width - 1
        if last >= limit:
            raise RuleError(f"{name} must stay below {space.value} {limit}, not reach {last}")
        words = start + stride * np.arange(count)[:, np.newaxis] + np.arange(width)
        self._note(space, write, words)
        return words

    def accumulator_area(self, f: dict[str, int], tiles: int, write: bool) -> Places:
        """Accumulator words [tiles, m] of an instruction: all in one half, no two the same."""
        words = self.area(Space.ACCUMULATOR, "accumulator", f["accumulator"], tiles, f["accumulator_stride"],
                          f["m"], write)
        half = self._config.half_words
        if words[0, 0] // half != words[-1, -1] // half:
            raise RuleError(f"accumulator must stay in one half of {half} words, not go from {words[0, 0]} "
                            f"to {words[-1, -1]}")
        if tiles > 1 and f["accumulator_stride"] < f["m"]:
            raise RuleError(f"accumulator_stride must be at least m = {f['m']}, "
                            f"not {f['accumulator_stride']}")
        return words

    def dram_bytes(self, address: int, size: int) -> bytes:
        """An instruction."""
        self._check_window(address, address + size)
        return self._dram[address - self._base :][:size].tobytes()

    def dram_rows(self, address: int, count: int, stride: int, size: int, write: bool) -> NDArray[np.uint8]:
        """A view [count, size] of the rows of a transfer."""
        bus = self._config.bus_bytes
        for name, value in ("dram_address", address), ("dram_stride", stride):
            if value % bus:
                raise RuleError(f"{name} must be a multiple of the bus's {bus} bytes, not {value:#x}")
        end = address + (count - 1) * stride + size
        self._check_window(address, -(-end // bus) * bus)
        if write and address < self.program[1] and end > self.program[0]:
            raise RuleError(f"a store must not touch the program at {self.program[0]:#x}, "
                            f"as from {address:#x} to {end:#x}")
        offset, unit = address - self._base, self.dram_unit
        if self.trace is not None:
            starts = (offset + stride * np.arange(count)) // unit
            self._note(Space.DRAM, write, starts[:, np.newaxis] + np.arange(size // unit))
        return as_strided(self._dram[offset:], (count, size), (stride, 1), writeable=write)

    def _check_window(self, start: int, end: int) -> None:
        low, high = self._window
        if start < low or end > high:
            raise RuleError(f"DRAM bytes must lie in the window from {low:#x} to {high:#x}, "
                            f"not from {start:#x} to {end:#x}")
