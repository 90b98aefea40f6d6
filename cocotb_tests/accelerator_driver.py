"""Drives a whole accelerator inside the simulator: registers over AXI4-Lite, DRAM behind AXI4."""

import logging
import random
from typing import Any

import numpy as np
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.program import KEEPABLE, Program
from celosia.firmware.machine.layout import build_image
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import COUNTERS, ErrorCause, register
from celosia.sim.functional import FunctionalMachine
from celosia.sim.golden.encoder import run_layer
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from cocotb_tests.harness import start_clock
from cocotb_tests.models import Memory, random_bits, status_fields, status_of
from cocotb_tests.random_programs import RandomProgram

__all__ = ["BASE", "LIMIT", "AcceleratorDriver", "Job"]

#: What a program may touch; the memory goes on behind it.
BASE, LIMIT = 0x1000, 0x1F000
_MEMORY_BYTES = 0x20000


class Job:
    """A one-layer encoder with its sentences: an image, a program, and what must come of them.

    Parameters
    ----------
    shape : (int, int, int)
        Hidden width, FFN width, heads.
    lengths : sequence of int
        Tokens of each sentence.
    masked : bool
        Some tokens take no part.
    """

    def __init__(self, config: AcceleratorConfig, shape: tuple[int, int, int], lengths, masked: bool = False):
        rng = np.random.default_rng(random.getrandbits(32))
        self.encoder = random_encoder(*shape, seed=random.getrandbits(32))
        self.image = build_image(config, self.encoder)
        self.program: Program = compile_program(self.image, lengths, KEEPABLE, BASE)
        assert self.program.end <= LIMIT
        self.inputs = [random_tokens(rng, length, shape[0]) for length in lengths]
        self.masks = [rng.random(length) < 0.6 if masked else None for length in lengths]

    def place(self, memory: bytearray) -> None:
        """Put everything where the program expects it."""
        program = self.program
        rows = np.zeros((sum(program.lengths), program.input_row_bytes), np.uint8)
        rows[:, :program.geometry.hidden] = np.concatenate(self.inputs).view(np.uint8)
        for address, content in [(BASE, self.image.data), (program.address, np.frombuffer(program.code, np.uint8)),
                                 (program.input_address, rows), (program.mask_address, program.mask(self.masks))]:
            memory[address:address + content.size] = content.tobytes()

    def check(self, before: bytes, memory: Memory) -> None:
        """Every kept tensor equals golden, and nothing else was written."""
        program = self.program
        golden = [run_layer(self.encoder.layers[0], self.encoder.heads, x, mask)
                  for x, mask in zip(self.inputs, self.masks, strict=True)]
        allowed = np.zeros(len(before), bool)
        for kept in program.kept:
            part = slice(kept.address, kept.address + kept.count * kept.row_bytes)
            allowed[part] = True
            found = kept.extract(np.frombuffer(bytes(memory.data[part]), np.uint8), program.geometry)
            np.testing.assert_array_equal(found, golden[kept.sentence][kept.name], strict=True,
                                          err_msg=f"{kept.name} of sentence {kept.sentence}")
        assert {kept.name for kept in program.kept} == set(KEEPABLE)
        assert not np.frombuffer(memory.written, np.uint8)[~allowed].any()
        changed = np.frombuffer(before, np.uint8) != np.frombuffer(memory.data, np.uint8)
        assert not changed[~allowed].any()


class AcceleratorDriver:
    """``memory`` is the DRAM; everything in it is random at first."""

    def __init__(self, dut: Any, config: AcceleratorConfig, latency: int = 0):
        self.dut = dut
        self.config = config
        self.memory = Memory(dut, "m_axi_mem", _MEMORY_BYTES, latency=latency)
        self.memory.data[:] = random.randbytes(_MEMORY_BYTES)
        logging.getLogger(f"cocotb.{dut._name}.s_axi_ctrl").setLevel(logging.WARNING)
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_ctrl"), dut.clk, dut.rst)

    async def start(self) -> "AcceleratorDriver":
        """Clock and reset, and :meth:`open`."""
        await start_clock(self.dut)
        await self.open()
        return self

    async def open(self) -> None:
        """Everything in the window may be touched, and the watchdog is far away."""
        await self.write_wide("window_base", BASE)
        await self.write_wide("window_limit", LIMIT)
        await self.write("watchdog", 20_000)

    def stress(self, pause: float) -> None:
        """From now on: pauses in each channel of both ports, with this probability in each cycle."""
        self.memory.set_pause(pause)
        writes, reads = self.host.write_if, self.host.read_if
        for channel in (writes.aw_channel, writes.w_channel, writes.b_channel, reads.ar_channel, reads.r_channel):
            channel.clear_pause_generator()
            channel.pause = False
            if pause:
                channel.set_pause_generator(random_bits(pause))

    async def write(self, name: str, value: int) -> None:
        response = await self.host.write(register(name).offset, value.to_bytes(4, "little"))
        assert response.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        response = await self.host.read(register(name).offset, 4)
        assert response.resp == AxiResp.OKAY
        return int.from_bytes(response.data, "little")

    async def write_wide(self, name: str, value: int) -> None:
        await self.write(f"{name}_low", value & 0xFFFFFFFF)
        await self.write(f"{name}_high", value >> 32)

    async def read_wide(self, name: str) -> int:
        return await self.read(f"{name}_low") | await self.read(f"{name}_high") << 32

    async def set(self, name: str, *fields: str) -> None:
        """Write a register with ones in these fields."""
        await self.write(name, sum(1 << bits.offset for bits in register(name).bits if bits.name in fields))

    async def status(self) -> dict[str, int]:
        return status_fields(await self.read("status"))

    async def launch(self, address: int) -> None:
        """Start the program at ``address`` with the interrupt enabled."""
        self.memory.written[:] = bytes(_MEMORY_BYTES)
        await self.write_wide("program", address)
        await self.set("interrupt", "enable")
        await self.set("control", "start")

    async def ended(self, limit: int = 100_000) -> dict[str, int]:
        """Wait for the interrupt; returns the status."""
        for _ in range(limit):
            if self.dut.interrupt.value == 1:
                return await self.status()
            await RisingEdge(self.dut.clk)
        raise AssertionError("no interrupt")

    async def run_random(self, length: int) -> None:
        """Run a random program of about ``length`` instructions, while the bus pauses or does not; memory is as if they
        were executed one by one."""
        memory = self.memory
        program = RandomProgram(self.config, length, BASE, LIMIT)
        memory.data[BASE:LIMIT] = program.memory.tobytes()
        outside = bytes(memory.data[:BASE]) + bytes(memory.data[LIMIT:])
        FunctionalMachine(self.config, seed=random.getrandbits(32)).run(
            program.memory, program.address, BASE, check_races=True)
        self.stress(random.choice([0.0, 0.0, 0.1, 0.4]))
        await self.launch(program.address)
        assert await self.ended() == status_of(done=1)
        found = np.frombuffer(bytes(memory.data[BASE:LIMIT]), np.uint8)
        wrong = np.flatnonzero(found != program.memory)
        if wrong.size:
            self.dut._log.info("%s", "\n".join(map(str, program.instructions)))
        np.testing.assert_array_equal(found, program.memory, err_msg=f"first at {BASE + wrong[:1]}")
        assert bytes(memory.data[:BASE]) + bytes(memory.data[LIMIT:]) == outside

    async def run(self, job: Job) -> dict[str, int]:
        """Run a job that must succeed, acknowledge its end, and check all that it did; returns the counters."""
        job.place(self.memory.data)
        before = bytes(self.memory.data)
        await self.launch(job.program.address)
        status = await self.ended()
        assert status == status_of(done=1), await self.read_wide("error_address")
        await self.set("interrupt", "enable", "acknowledge")
        assert self.dut.interrupt.value == 0
        job.check(before, self.memory)
        return {name: await self.read_wide(name) for name, _ in COUNTERS}

    async def fails(self, cause: ErrorCause, address: int) -> None:
        """The program that was launched must stop with this error; a soft reset then clears it."""
        status = await self.ended()
        assert status == status_of(error=1, cause=cause.value)
        assert await self.read_wide("error_address") == address
        if cause is not ErrorCause.STORE_BUS_ERROR:  # then the memory took, and answered with an error, some more
            assert await self.read_wide("write_bytes") == sum(self.memory.written)
        await self.set("control", "start")
        assert await self.status() == status_of(error=1, cause=cause.value, refused=1)
        assert self.dut.interrupt.value == 1
        await self.soft_reset()
        assert await self.read_wide("error_address") == 0

    async def soft_reset(self, limit: int = 2000) -> None:
        """Make one and wait for its end: then the bus owes nothing."""
        await self.set("control", "reset")
        assert self.dut.interrupt.value == 0
        for _ in range(limit):
            if await self.status() == status_of():
                return
        raise AssertionError("the stop does not end")
