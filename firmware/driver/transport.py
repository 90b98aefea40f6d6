"""Ways to an accelerator: what the driver needs of one, and those to simulated hardware."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...hdl.config import AcceleratorConfig
from ...hdl.control.control import constant_registers
from ...hdl.isa import INSTRUCTION_BYTES
from ...hdl.registers import REGISTERS, Access, ErrorCause, register
from ...sim.functional import FunctionalMachine, ProgramError
from ...sim.model import Simulation

__all__ = [
    "FunctionalTransport", "SimulatedTransport", "Transport", "TransportError", "check_range", "status_fields",
    "wait_for_end"]

Bytes = NDArray[np.uint8]
Progress = Callable[[int], None]


class Transport(Protocol):
    """What the driver needs: registers, memory that the accelerator sees, and its interrupt.

    Attributes
    ----------
    base_address
        DRAM byte address of the memory's first byte; a multiple of 64.
    memory_bytes
        Size of the memory.
    """

    base_address: int
    memory_bytes: int

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``."""

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte ``offset``."""

    def read_memory(self, address: int, size: int) -> Bytes:
        """``size`` bytes from DRAM byte ``address``: a copy."""

    def write_memory(self, address: int, data: Bytes) -> None:
        """Write the bytes of ``data`` from DRAM byte ``address`` on."""

    def wait_interrupt(
        self, max_cycles: int, on_progress: Progress | None = None, marks: Sequence[int] = (),
        on_mark: Progress | None = None,
    ) -> bool:
        """Wait until the interrupt line is high, for at most about ``max_cycles`` cycles of the accelerator;
        returns whether it is. Gives up, too, when a stop does not end, since the memory does not answer.

        ``on_progress`` is told the cycles so far, now and then. ``on_mark``, where a transport sees the memory
        bus, is told the index of each of the DRAM addresses ``marks`` when it is written; they are written in
        their order.
        """


class TransportError(RuntimeError):
    """There is no way to the accelerator, or it broke. The message names the way, what was wanted, and what
    came of it."""


class _Range(Protocol):
    base_address: int
    memory_bytes: int


def check_range(memory: _Range, address: int, size: int) -> None:
    """Refuse ``size`` bytes from ``address`` with a :class:`ValueError` unless the memory has them all."""
    base, end = memory.base_address, memory.base_address + memory.memory_bytes
    if address < base or address + size > end:
        raise ValueError(f"an address must be from {base:#x} to {end - 1:#x}, not {address:#x} with {size} bytes")


def status_fields(value: int) -> dict[str, int]:
    """The fields of the status register."""
    return {bits.name: value >> bits.offset & ((1 << bits.width) - 1) for bits in register("status").bits}


def wait_for_end(
    transport: Transport, max_cycles: int, on_progress: Progress | None = None, pause: float = 0.001
) -> bool:
    """:meth:`Transport.wait_interrupt` where nobody sees the interrupt: looks at the status, and at the counter
    of cycles, every ``pause`` seconds."""
    low, high = (register(f"cycles_{half}").offset for half in ("low", "high"))
    idle = stopping = 0
    while True:
        status = status_fields(transport.read_register(register("status").offset))
        if status["done"] or status["error"]:
            return True
        # `busy` is there when the start's write is answered; boards may be slower to show it.
        idle = 0 if status["busy"] else idle + 1
        stopping = stopping + 1 if status["stopping"] else 0
        cycles = transport.read_register(high) << 32 | transport.read_register(low)
        if cycles >= max_cycles or idle == 3 or stopping == _STOP_LOOKS:
            return False
        if on_progress is not None:
            on_progress(cycles)
        time.sleep(pause)


#: Looks at the status, or cycles of a simulation, for which a stop may last before the memory is given up.
_STOP_LOOKS = 1000
_STOP_CYCLES = 1_000_000


class _ArrayMemory:
    """Memory that is a NumPy array."""

    def __init__(self, memory: Bytes, base_address: int):
        self.memory = memory
        self.base_address = base_address
        self.memory_bytes = memory.size

    def _part(self, address: int, size: int) -> Bytes:
        check_range(self, address, size)
        start = address - self.base_address
        return self.memory[start : start + size]

    def read_memory(self, address: int, size: int) -> Bytes:
        return self._part(address, size).copy()

    def write_memory(self, address: int, data: Bytes) -> None:
        self._part(address, data.size)[:] = data


class SimulatedTransport(_ArrayMemory):
    """The Verilated accelerator and its memory, which the driver shares without a copy."""

    def __init__(self, simulation: Simulation):
        super().__init__(simulation.memory, simulation.base)
        self.simulation = simulation
        simulation.reset()

    def read_register(self, offset: int) -> int:
        return self.simulation.read(offset)

    def write_register(self, offset: int, value: int) -> None:
        self.simulation.write(offset, value)

    def wait_interrupt(
        self, max_cycles: int, on_progress: Progress | None = None, marks: Sequence[int] = (),
        on_mark: Progress | None = None,
    ) -> bool:
        simulation, first = self.simulation, self.simulation.cycles

        def run() -> bool:
            """Until the interrupt, what is watched, the limit, or a stop that does not end."""
            stopping = False
            while (before := simulation.cycles - first) < max_cycles:
                report = (lambda done, before=before: on_progress(before + done)) if on_progress else None
                slice = min(_STOP_CYCLES, max_cycles - before)
                if simulation.run_until(max_cycles=slice, on_progress=report):
                    return True
                if simulation.watch_hit:
                    break
                status = status_fields(self.read_register(register("status").offset))
                if status["stopping"] and stopping:
                    break
                stopping = bool(status["stopping"])
            return False

        if on_mark is not None:
            for index, address in enumerate(marks):
                simulation.watch(address)
                run()
                if not simulation.watch_hit:
                    break
                on_mark(index)
            simulation.watch(None)
        return run()


class FunctionalTransport(_ArrayMemory):
    """The functional machine behind the same registers: no time passes, and the counters of cycles stay zero.

    With ``check_races`` it also requires that a program's semaphores order all that conflicts.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        memory_bytes: int,
        base_address: int = 0,
        check_races: bool = False,
        seed: int | None = None,
    ):
        super().__init__(np.zeros(memory_bytes, np.uint8), base_address)
        self._config = config
        self._machine = FunctionalMachine(config, seed)
        self._check_races = check_races
        self._registers = {item.offset: item.reset for item in REGISTERS}
        self._by_offset = {item.offset: item for item in REGISTERS}
        for name, value in constant_registers(config).items():
            self._set(name, value)

    def _set(self, name: str, value: int) -> None:
        self._registers[register(name).offset] = value

    def _wide(self, name: str) -> int:
        low, high = (self._registers[register(f"{name}_{half}").offset] for half in ("low", "high"))
        return high << 32 | low

    def _set_wide(self, name: str, value: int) -> None:
        self._set(f"{name}_low", value & 0xFFFF_FFFF)
        self._set(f"{name}_high", value >> 32)

    def _set_status(self, **fields: int) -> None:
        bits = {field.name: field.offset for field in register("status").bits}
        self._set("status", sum(value << bits[name] for name, value in fields.items()))

    def read_register(self, offset: int) -> int:
        return self._registers[offset]

    def write_register(self, offset: int, value: int) -> None:
        target = self._by_offset[offset]
        if target.access is Access.WRITE:
            self._registers[offset] = value
        elif target.name == "control":
            bits = {field.name: value >> field.offset & 1 for field in target.bits}
            if bits["reset"]:
                self._set_status()
            elif bits["start"]:
                self._run()

    def _run(self) -> None:
        program = self._wide("program")
        window = self._wide("window_base"), self._wide("window_limit")
        try:
            work = self._machine.run(
                self.memory, program, self.base_address, window, check_races=self._check_races
            )
        except ProgramError as error:
            self._set_wide("error_address", program + error.index * INSTRUCTION_BYTES)
            self._set_status(error=1, cause=ErrorCause.ILLEGAL_INSTRUCTION.value)
            return
        self._set_wide("instructions", work.instructions)
        self._set_wide("read_bytes", work.read_bytes + work.instructions * INSTRUCTION_BYTES)
        self._set_wide("write_bytes", work.write_bytes)
        self._set_status(done=1)

    def wait_interrupt(
        self, max_cycles: int, on_progress: Progress | None = None, marks: Sequence[int] = (),
        on_mark: Progress | None = None,
    ) -> bool:
        return any(status_fields(self._registers[register("status").offset])[name] for name in ("done", "error"))
