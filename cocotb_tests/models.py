"""Models of what surrounds the control side: DRAM behind AXI4, the scratchpad's ports, and engines with a
will of their own. For use inside the simulator."""

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from celosia.hdl.memory.interfaces import READ_LATENCY
from celosia.hdl.registers import register
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiSlave

__all__ = [
    "CommandDriver", "Memory", "ReadPort", "WritePort", "cycles", "random_bits", "sampled", "status_fields",
    "status_of"]


def random_bits(probability: float) -> Iterator[bool]:
    """For ever: True with ``probability``."""
    while True:
        yield random.random() < probability


def sampled(signal: Any) -> int:
    """The value of ``signal`` as an unsigned number."""
    return int(signal.value)


def status_fields(value: int) -> dict[str, int]:
    """The fields of the status register."""
    return {bits.name: value >> bits.offset & (1 << bits.width) - 1 for bits in register("status").bits}


def status_of(**fields: int) -> dict[str, int]:
    """All fields of the status register: those that are named, and zeros."""
    return status_fields(0) | fields


async def cycles(clock: Any, count: int) -> None:
    """Wait for ``count`` edges."""
    for _ in range(count):
        await RisingEdge(clock)


class Memory:
    """DRAM from address 0 on, with guards.

    Parameters
    ----------
    dut, prefix
        The design, and what its AXI4 port's names start with.
    size : int
        Bytes. An access beyond is answered with an error.
    pause : float
        Probability of a pause in each cycle, in each channel.
    latency : int
        Cycles from a read's acceptance to its first beat, when the model is idle.
    """

    def __init__(self, dut: Any, prefix: str, size: int, pause: float = 0.0, latency: int = 0):
        self.data = bytearray(size)
        self.clock = dut.clk
        self.latency = latency
        self.bad: range = range(0)  # addresses that are answered with an error
        self.hanging = False
        self.reads: list[int] = []
        self.taken = 0  # bursts, of either direction
        self.written = bytearray(size)  # how often each byte was written, up to 255
        self._burst_end = 0
        # Not a line for each burst.
        logging.getLogger(f"cocotb.{dut._name}.{prefix}").setLevel(logging.WARNING)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, prefix), dut.clk, dut.rst, target=self)
        self.set_pause(pause)

    def set_pause(self, pause: float) -> None:
        """Pause each channel with this probability in each cycle."""
        for side in (self.slave.write_if, self.slave.read_if):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                channel = getattr(side, name, None)
                if channel is not None:
                    channel.clear_pause_generator()
                    channel.pause = False
                    if pause:
                        channel.set_pause_generator(random_bits(pause))

    async def read(self, address: int, length: int) -> bytes:
        self.reads.append(address)
        self.taken += 1
        if address != self._burst_end:
            await cycles(self.clock, self.latency)
        self._burst_end = address + length
        while self.hanging:
            await RisingEdge(self.clock)
        if address in self.bad or address + length > len(self.data):
            raise ValueError("error response")
        return bytes(self.data[address:address + length])

    async def write(self, address: int, data: bytes) -> None:
        self.taken += 1
        while self.hanging:
            await RisingEdge(self.clock)
        if address in self.bad or address + len(data) > len(self.data):
            raise ValueError("error response")
        self.data[address:address + len(data)] = data
        for i in range(address, address + len(data)):
            self.written[i] = min(255, self.written[i] + 1)


class WritePort:
    """The scratchpad's side of a ScratchpadWriteSignature: ``words`` by address, granted with
    ``probability``."""

    def __init__(self, dut: Any, prefix: str, words: dict[int, int], probability: float = 1.0):
        self.words = words
        self.probability = probability
        self.stored = 0
        self._signals = {name: getattr(dut, f"{prefix}_{name}")
                         for name in ("enable", "ready", "address", "data", "mask")}
        self._clock = dut.clk
        self._signals["ready"].value = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        s = self._signals
        while True:
            await RisingEdge(self._clock)
            if s["enable"].value == 1 and s["ready"].value == 1:
                assert sampled(s["mask"]) == (1 << len(s["mask"])) - 1
                self.words[sampled(s["address"])] = sampled(s["data"])
                self.stored += 1
            s["ready"].value = int(random.random() < self.probability)


class ReadPort:
    """The scratchpad's side of a ScratchpadReadSignature: ``words`` by address, granted with ``probability``;
    between its words the data is noise."""

    def __init__(self, dut: Any, prefix: str, words: dict[int, int], probability: float = 1.0):
        self.words = words
        self.probability = probability
        self._signals = {name: getattr(dut, f"{prefix}_{name}")
                         for name in ("enable", "ready", "address", "data")}
        self._clock = dut.clk
        self._signals["ready"].value = 0
        self._signals["data"].value = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        s = self._signals
        width = len(s["data"])
        pipeline: list[int | None] = [None] * READ_LATENCY
        while True:
            await RisingEdge(self._clock)
            granted = s["enable"].value == 1 and s["ready"].value == 1
            pipeline.append(self.words.get(sampled(s["address"]), 0) if granted else None)
            pipeline.pop(0)
            s["data"].value = random.getrandbits(width) if pipeline[0] is None else pipeline[0]
            s["ready"].value = int(random.random() < self.probability)


class CommandDriver:
    """The sequencer's side of a CommandSignature: offers ``send`` instructions with random gaps, counts
    ``finished``."""

    def __init__(self, dut: Any, prefix: str, gap: float = 0.0):
        self._payload = getattr(dut, f"{prefix}_command_payload")
        self._valid = getattr(dut, f"{prefix}_command_valid")
        self._ready = getattr(dut, f"{prefix}_command_ready")
        self._finished = getattr(dut, f"{prefix}_finished")
        self._clock = dut.clk
        self.gap = gap
        self.finished = 0
        self.on_finish: Callable[[], None] = lambda: None
        self._valid.value = 0
        self._payload.value = 0
        cocotb.start_soon(self._count())

    async def _count(self) -> None:
        while True:
            await RisingEdge(self._clock)
            if self._finished.value == 1:
                self.finished += 1
                self.on_finish()

    async def send(self, instruction: bytes) -> None:
        """Returns when the instruction was accepted."""
        while random.random() < self.gap:
            await RisingEdge(self._clock)
        mask = (1 << len(self._payload)) - 1
        self._payload.value = int.from_bytes(instruction, "little") & mask
        self._valid.value = 1
        await RisingEdge(self._clock)
        while self._ready.value != 1:
            await RisingEdge(self._clock)
        self._valid.value = 0
