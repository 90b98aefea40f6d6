"""The Verilated accelerator with its DRAM, driven from Python; the clock loop runs in C++."""

import ctypes
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .build import compile_model

__all__ = ["BusError", "BusStatistics", "Clock", "MemoryTiming", "Ports", "Simulation", "WavesError"]

_LITE_LIMIT = 10_000  # cycles after which an AXI4-Lite access has failed
_CHUNK = 100_000  # cycles between two looks at Python's signals
_RESPONSES = {1: "EXOKAY", 2: "SLVERR", 3: "DECERR"}


class BusError(RuntimeError):
    """A rule of AXI4 was broken, or a register access was refused or not answered. After a broken rule the
    simulation can't go on."""


class WavesError(RuntimeError):
    """Waves can't be recorded: the model was compiled without them, or the file can't be written."""


@dataclass(frozen=True)
class MemoryTiming:
    """How the DRAM behaves; reads and writes are independent, each is answered in order.

    Parameters
    ----------
    latency : int
        Cycles from an accepted read address to its first beat, at least 1. Bursts overlap, so that
        back-to-back bursts stream without a gap.
    write_latency : int
        Cycles from the last accepted beat of a write to its response, at least 1.
    beats_per_cycle : float
        Bandwidth of each direction, above 0 and up to 1.
    outstanding : int
        Bursts that are accepted before one is answered, each direction, from 1 to 256.
    stall : float
        Probability, from 0 and below 1, that a channel does nothing in a cycle.
    seed : int
        Seed of the stalls.
    """

    latency: int = 40
    write_latency: int = 10
    beats_per_cycle: float = 1.0
    outstanding: int = 64
    stall: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, rule in [
            ("latency", 1 <= self.latency < 2**31, "at least 1 cycle"),
            ("write_latency", 1 <= self.write_latency < 2**31, "at least 1 cycle"),
            ("beats_per_cycle", 2**-16 <= self.beats_per_cycle <= 1, "above 0 and at most 1"),
            ("outstanding", 1 <= self.outstanding <= 256, "from 1 to 256 bursts"),
            ("stall", 0 <= self.stall < 1, "at least 0 and below 1"),
            ("seed", 0 <= self.seed < 2**64, "from 0 to 2**64 - 1"),
        ]:
            if not holds:
                raise ValueError(f"{name} must be {rule}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class BusStatistics:
    """What went over the memory bus since the last :meth:`Simulation.clear_statistics`.

    ``write_bytes`` counts strobed bytes; ``read_wait`` the cycles in which a read beat waited for the
    accelerator; ``slave_errors`` and ``decode_errors`` the beats answered with SLVERR (a fault was injected
    there) and DECERR (outside the memory, the first at ``first_decode_error``).
    """

    read_bursts: int
    read_beats: int
    read_bytes: int
    write_bursts: int
    write_beats: int
    write_bytes: int
    read_wait: int
    slave_errors: int
    decode_errors: int
    first_decode_error: int


class _Options(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("base", ctypes.c_uint64), ("size", ctypes.c_uint64),
        ("seed", ctypes.c_uint64), ("latency", ctypes.c_uint32), ("write_latency", ctypes.c_uint32),
        ("outstanding", ctypes.c_uint32), ("rate", ctypes.c_uint32), ("stall", ctypes.c_uint32),
    ]


class _Statistics(ctypes.Structure):
    _fields_ = [(field.name, ctypes.c_uint64) for field in dataclasses.fields(BusStatistics)]


class _PortInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_void_p), ("width", ctypes.c_uint32),
                ("is_input", ctypes.c_uint32)]


class Ports:
    """The ports of the top module as attributes: ``sim.io.interrupt``; inputs can be set.

    Values are ints, of any width. An input keeps its value until it is set again; those of the memory and
    of the register bus are driven by the simulation. Outputs follow inputs at once.
    """

    _simulation: "Simulation"
    _table: dict[str, _PortInfo]

    def __init__(self, simulation: "Simulation", table: dict[str, _PortInfo]):
        object.__setattr__(self, "_simulation", simulation)
        object.__setattr__(self, "_table", table)

    def __dir__(self) -> list[str]:
        return sorted(self._table)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def _find(self, name: str) -> tuple[_PortInfo, int]:
        self._simulation._check_open()
        port = self._table.get(name)
        if port is None:
            raise AttributeError(f"the top module has no port {name!r}; it has {', '.join(self._table)}")
        size = next((size for size in (1, 2, 4, 8) if port.width <= 8 * size), (port.width + 31) // 32 * 4)
        return port, size

    def __getattr__(self, name: str) -> int:
        port, size = self._find(name)
        return int.from_bytes(ctypes.string_at(port.value, size), "little")

    def __setattr__(self, name: str, value: int) -> None:
        port, size = self._find(name)
        if not port.is_input:
            raise AttributeError(f"{name} is an output, it can't be set")
        value = int(value)
        if not 0 <= value < 1 << port.width:
            raise ValueError(f"{name} must be from 0 to 2**{port.width} - 1, not {value}")
        ctypes.memmove(port.value, value.to_bytes(size, "little"), size)
        self._simulation._settle()


class Clock:
    """The clock of the simulation."""

    def __init__(self, simulation: "Simulation"):
        self._simulation = simulation

    @property
    def cycles(self) -> int:
        """Cycles since the simulation was made."""
        return self._simulation.cycles

    def tick(self, cycles: int = 1) -> None:
        """Advance by ``cycles`` cycles."""
        self._simulation._run(cycles, False, None)


class Simulation:
    """A compiled accelerator on a bus with a memory.

    Parameters
    ----------
    library : Path
        What :func:`~celosia.sim.build.compile_model` returned.
    memory : array of uint8 [size]
        The DRAM: contiguous, writable, a multiple of the bus width. It is read and written in place.
    base : int
        Address of ``memory[0]``, a multiple of the bus width.
    timing : MemoryTiming
        How the memory behaves.

    Rules
    -----
    1. Call :meth:`reset` first.
    2. Time advances in :meth:`run_until`, ``clock.tick``, :meth:`read`, :meth:`write` and :meth:`reset` only.
       Between calls the clock is low and every output has settled.
    3. A broken AXI4 rule raises :class:`BusError` from the call that found it, and from each later one.
    """

    def __init__(
        self, library: Path, memory: NDArray[np.uint8], *, base: int = 0, timing: MemoryTiming | None = None
    ):
        self._handle = None
        self._library = _load(library)
        beat = self._library.celosia_beat_bytes()
        if not (isinstance(memory, np.ndarray) and memory.dtype == np.uint8 and memory.ndim == 1
                and memory.flags.c_contiguous and memory.flags.writeable):
            raise ValueError("memory must be a writable, contiguous array of uint8 with one dimension")
        if memory.size == 0 or memory.size % beat:
            raise ValueError(f"the size of memory must be a multiple of the bus width, {beat} bytes, "
                             f"not {memory.size}")
        if not (0 <= base < 2**64 and base % beat == 0):
            raise ValueError(f"base must be a multiple of the bus width, {beat} bytes, not {base}")
        self.memory = memory
        self.base = base
        self.timing = timing = timing or MemoryTiming()
        options = _Options(
            data=memory.ctypes.data, base=base, size=memory.size, seed=timing.seed, latency=timing.latency,
            write_latency=timing.write_latency, outstanding=timing.outstanding,
            rate=round(timing.beats_per_cycle * 65536), stall=round(timing.stall * 65536))
        self._handle = self._library.celosia_create(ctypes.byref(options))
        ports = ctypes.POINTER(_PortInfo)()
        count = self._library.celosia_ports(self._handle, ctypes.byref(ports))
        self.io = Ports(self, {ports[i].name.decode(): ports[i] for i in range(count)})
        self.clock = Clock(self)

    @classmethod
    def from_verilog(
        cls, verilog: str, memory: NDArray[np.uint8], *, base: int = 0, timing: MemoryTiming | None = None,
        **compile_options: Any,
    ) -> "Simulation":
        """Compile ``verilog``, if it isn't yet, and make a simulation; ``compile_options`` as for
        :func:`~celosia.sim.build.compile_model`."""
        return cls(compile_model(verilog, **compile_options), memory, base=base, timing=timing)

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the simulation and finish its waves; again is harmless. The memory stays."""
        if self._handle is not None:
            self._library.celosia_destroy(self._handle)
            self._handle = None

    @property
    def cycles(self) -> int:
        """Cycles since the simulation was made."""
        self._check_open()
        return self._library.celosia_cycle(self._handle)

    def reset(self, cycles: int = 4) -> None:
        """Hold ``rst`` for ``cycles`` cycles, at least 1. The memory forgets all bursts, not its content."""
        self.io.rst = 1
        self.clock.tick(max(cycles, 1))
        self.io.rst = 0

    def run_until(
        self, *, interrupt: bool = True, max_cycles: int, on_progress: Callable[[int], None] | None = None
    ) -> bool:
        """Run until the interrupt line is high, or for ``max_cycles``; returns whether the line is high.

        It also stops when what :meth:`watch` named is written. Without ``interrupt`` it runs for ``max_cycles``,
        whatever the line does. ``on_progress`` is called with the cycles done in this call, a few times a second.
        """
        self._run(max_cycles, interrupt, on_progress)
        return bool(self.io.interrupt)

    def watch(self, address: int | None) -> None:
        """Let the next :meth:`run_until` also stop when the beat of DRAM byte ``address`` is written; None: no
        longer."""
        self._check_open()
        self._library.celosia_watch(self._handle, 2**64 - 1 if address is None else address)

    @property
    def watch_hit(self) -> bool:
        """The watched address has been written."""
        self._check_open()
        return bool(self._library.celosia_watch_hit(self._handle))

    def write(self, offset: int, value: int) -> None:
        """Write a 32-bit register over AXI4-Lite; raises :class:`BusError` when refused or not answered."""
        self._check_open()
        response = self._library.celosia_write(self._handle, offset, value, _LITE_LIMIT)
        self._check_response("write", offset, response)

    def read(self, offset: int) -> int:
        """Read a 32-bit register over AXI4-Lite; raises :class:`BusError` when refused or not answered."""
        self._check_open()
        value = ctypes.c_uint32()
        response = self._library.celosia_read(self._handle, offset, ctypes.byref(value), _LITE_LIMIT)
        self._check_response("read", offset, response)
        return value.value

    def inject_slave_error(self, address: int, size: int) -> None:
        """Answer beats that touch ``size`` bytes from ``address`` with SLVERR, and transfer none of them."""
        self._add_fault(address, size, 0)

    def inject_silence(self, address: int, size: int) -> None:
        """Never answer a beat that touches ``size`` bytes from ``address``, nor what was asked after it."""
        self._add_fault(address, size, 1)

    def clear_faults(self) -> None:
        """Forget what was injected; silent bursts are answered now."""
        self._check_open()
        self._library.celosia_clear_faults(self._handle)

    @property
    def statistics(self) -> BusStatistics:
        """What went over the memory bus."""
        self._check_open()
        raw = _Statistics()
        self._library.celosia_statistics(self._handle, ctypes.byref(raw))
        return BusStatistics(*(getattr(raw, field.name) for field in dataclasses.fields(BusStatistics)))

    def clear_statistics(self) -> None:
        """Count from zero again."""
        self._check_open()
        self._library.celosia_clear_statistics(self._handle)

    def observe(self, on: bool = True) -> None:
        """Keep the value of the output ``observed`` (32 bits) in each cycle from now on, or no longer; what was kept is
        forgotten. Raises :class:`ValueError` when the top has no such output."""
        self._check_open()
        if not self._library.celosia_observe(self._handle, on):
            raise ValueError("the top must have an output called observed, to be observed")

    @property
    def observations(self) -> NDArray[np.uint32]:
        """What :meth:`observe` has kept, one value a cycle: a copy."""
        self._check_open()
        values = ctypes.POINTER(ctypes.c_uint32)()
        count = self._library.celosia_observations(self._handle, ctypes.byref(values))
        return np.ctypeslib.as_array(values, (count,)).copy() if count else np.zeros(0, np.uint32)

    def start_waves(self, path: str | Path) -> None:
        """Record all signals to ``path`` from now on, until :meth:`stop_waves` or :meth:`close`.

        A cycle is 10 ns. Raises :class:`WavesError` when the model was compiled without waves or the file
        can't be written.
        """
        self._check_open()
        if not self._library.celosia_waves():
            raise WavesError('this model was compiled without waves: compile it with waves="vcd"')
        path = Path(path)
        try:
            path.touch()
        except OSError as error:
            raise WavesError(f"waves can't be written to {str(path)!r}: {error.strerror}") from error
        self._library.celosia_start_waves(self._handle, str(path).encode())
        self._check_error()

    def stop_waves(self) -> None:
        """Finish the file of waves."""
        self._check_open()
        self._library.celosia_stop_waves(self._handle)

    def _run(self, cycles: int, until_interrupt: bool, on_progress: Callable[[int], None] | None) -> None:
        self._check_open()
        done = 0
        while done < cycles:
            chunk = min(_CHUNK, cycles - done)
            ran = self._library.celosia_run(self._handle, chunk, until_interrupt)
            self._check_error()
            done += ran
            if on_progress is not None:
                on_progress(done)
            if ran < chunk:
                break

    def _settle(self) -> None:
        self._library.celosia_settle(self._handle)
        self._check_error()

    def _add_fault(self, address: int, size: int, kind: int) -> None:
        self._check_open()
        if size < 1:
            raise ValueError(f"size must be at least 1 byte, not {size}")
        self._library.celosia_add_fault(self._handle, address, address + size - 1, kind)

    def _check_open(self) -> None:
        if self._handle is None:
            raise ValueError("the simulation is closed")

    def _check_error(self) -> None:
        text = self._library.celosia_error(self._handle)
        if text:
            raise BusError(text.decode())

    def _check_response(self, what: str, offset: int, response: int) -> None:
        self._check_error()
        if response < 0:
            raise BusError(f"the {what} of register 0x{offset:x} was not answered in {_LITE_LIMIT} cycles")
        if response:
            raise BusError(f"the {what} of register 0x{offset:x} was answered with {_RESPONSES[response]}")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, word, long = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in [
        ("create", handle, [ctypes.POINTER(_Options)]),
        ("destroy", None, [handle]),
        ("error", ctypes.c_char_p, [handle]),
        ("cycle", long, [handle]),
        ("beat_bytes", word, []),
        ("run", long, [handle, long, ctypes.c_int]),
        ("watch", None, [handle, long]),
        ("watch_hit", ctypes.c_int, [handle]),
        ("write", ctypes.c_int, [handle, word, word, long]),
        ("read", ctypes.c_int, [handle, word, ctypes.POINTER(word), long]),
        ("settle", None, [handle]),
        ("ports", word, [handle, ctypes.POINTER(ctypes.POINTER(_PortInfo))]),
        ("statistics", None, [handle, ctypes.POINTER(_Statistics)]),
        ("clear_statistics", None, [handle]),
        ("add_fault", None, [handle, long, long, word]),
        ("clear_faults", None, [handle]),
        ("observe", ctypes.c_int, [handle, ctypes.c_int]),
        ("observations", long, [handle, ctypes.POINTER(ctypes.POINTER(word))]),
        ("waves", ctypes.c_int, []),
        ("start_waves", ctypes.c_int, [handle, ctypes.c_char_p]),
        ("stop_waves", None, [handle]),
    ]:
        function = getattr(library, f"celosia_{name}")
        function.restype, function.argtypes = result, arguments
    return library
