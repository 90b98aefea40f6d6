"""An accelerator in the programmable logic of a Zynq, with PYNQ on its processor."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from .transport import Bytes, Progress, TransportError, check_range, wait_for_end

__all__ = ["PynqTransport"]


class PynqTransport:
    """Registers over ``pynq.MMIO``, and memory from ``pynq.allocate`` that both sides see.

    PYNQ is imported when an instance is made: it only runs on its boards.

    Parameters
    ----------
    overlay
        Path of the bitstream (its ``.hwh`` file lies beside it), which is loaded.
    memory_bytes
        How much memory to allocate.
    name
        Name of the accelerator in the overlay; not needed where the overlay has no other IP.

    Raises
    ------
    TransportError
        When PYNQ is not installed, the overlay can't be loaded, has no such IP, or there is not so much memory.
    """

    def __init__(self, overlay: str, memory_bytes: int = 1 << 26, *, name: str | None = None):
        try:
            pynq: Any = import_module("pynq")
        except ImportError as error:
            raise TransportError(f"the overlay {overlay!r} needs PYNQ, which can't be imported: {error}") from error
        try:
            found = pynq.Overlay(overlay).ip_dict
        except (OSError, RuntimeError, ValueError) as error:
            raise TransportError(f"the overlay {overlay!r} can't be loaded: {error}") from error
        chosen = [name] if name in found else [] if name is not None else list(found)
        if len(chosen) != 1:
            raise TransportError(f"the name must be that of an IP of {overlay!r}: one of {', '.join(found) or 'none'}; "
                                 f"not {name!r}")
        entry = found[chosen[0]]
        self._registers = pynq.MMIO(entry["phys_addr"], entry["addr_range"])
        try:
            self._buffer = pynq.allocate(shape=(memory_bytes,), dtype=np.uint8)
        except (MemoryError, OSError, RuntimeError) as error:
            raise TransportError(f"PYNQ can't allocate {memory_bytes} bytes: {error}") from error
        self.base_address = int(self._buffer.device_address)
        self.memory_bytes = memory_bytes

    def close(self) -> None:
        """Give the memory back."""
        self._buffer.freebuffer()

    def read_register(self, offset: int) -> int:
        return int(self._registers.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        self._registers.write(offset, int(value))

    def _part(self, address: int, size: int) -> Any:
        check_range(self, address, size)
        start = address - self.base_address
        return self._buffer[start:start + size]

    def read_memory(self, address: int, size: int) -> Bytes:
        part = self._part(address, size)
        part.invalidate()  # the processor's cache may hold what was there before
        return np.array(part, np.uint8)

    def write_memory(self, address: int, data: Bytes) -> None:
        part = self._part(address, data.size)
        part[:] = data
        part.flush()

    def wait_interrupt(
        self, max_cycles: int, on_progress: Progress | None = None, marks: Sequence[int] = (),
        on_mark: Progress | None = None,
    ) -> bool:
        return wait_for_end(self, max_cycles, on_progress)
