"""Drives the control side inside the simulator: a DRAM model with programs; the matmul and the vector engine are models
with random delays."""

import random
from collections import deque

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import (
    END,
    INSTRUCTION_BYTES,
    MATMUL,
    TRANSFER,
    VECTOR,
    Function,
    Opcode,
    semaphore_index,
)
from celosia.hdl.isa import Engine as EngineNumber
from celosia.hdl.registers import register
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.models import Memory, ReadPort, WritePort, cycles, status_fields, status_of

__all__ = [
    "BASE",
    "BUS",
    "CONFIG",
    "DATA",
    "END_",
    "LIMIT",
    "MEMORY_BYTES",
    "PROGRAM",
    "ROW_BYTES",
    "ROW_WORDS",
    "Bench",
    "between",
    "load",
    "matmul",
    "number_of",
    "numbered",
    "store",
    "transfer",
    "vector",
]

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])
BUS, WORD = CONFIG.bus_bytes, CONFIG.word_bytes
MEMORY_BYTES = 1 << 18
BASE, LIMIT = 0x1000, 0xF000
PROGRAM, DATA = 0x1000, 0x8000  # the lower part of the window holds programs
ROW_WORDS = 4 * max(1, BUS // WORD)
ROW_BYTES = ROW_WORDS * WORD


def transfer(opcode, address=DATA, **more):
    fields = {"count": 1, "words": ROW_WORDS, "dram_address": address, **more}
    return TRANSFER.encode(opcode=opcode.value, **fields)


def load(**fields):
    return transfer(Opcode.LOAD, **fields)


def store(**fields):
    return transfer(Opcode.STORE, **fields)


def matmul(**more):
    fields = {"m": 1, "n_tiles": 1, "k_tiles": 1, **more}
    return MATMUL.encode(opcode=Opcode.MATMUL.value, **fields)


def vector(**more):
    fields = {"function": Function.REQUANTISE.value, "m": 1, "groups": 1, **more}
    return VECTOR.encode(opcode=Opcode.VECTOR.value, **fields)


END_ = END.encode(opcode=Opcode.END.value)


def between(giver, taker):
    """The mask of the semaphore from engine ``giver`` to engine ``taker``, given by their names."""
    return 1 << semaphore_index(EngineNumber[giver.upper()], EngineNumber[taker.upper()])


def numbered(make, number, **more):
    """An instruction for the matmul or the vector engine that tells it its ``number``, from 0."""
    return make(**{"n_tiles" if make is matmul else "groups": number + 1}, **more)


def number_of(instruction):
    """The number in what the engine was given of an instruction, its fields."""
    return instruction.get("n_tiles", instruction.get("groups")) - 1


class Engine:
    """An engine with a pipeline: accepts up to ``depth`` instructions, finishes each after a random delay, in
    order. Logs ``("start" | "end", name, cycle, instruction)``."""

    def __init__(self, bench, name, format, delay=(0, 30), depth=2):
        self.bench, self.name, self.format = bench, name, format
        self.delay, self.depth = delay, depth
        self.hesitation = 0.3  # the probability of not being ready in a cycle, though there is room
        self.stuck = False
        self.s = {part: getattr(bench.dut, f"{name}_{part}")
                  for part in ("command_valid", "command_ready", "command_payload", "finished")}
        self.s["command_ready"].value = 0
        self.s["finished"].value = 0
        cocotb.start_soon(self._run())

    async def _run(self):
        s, dut = self.s, self.bench.dut
        held = None  # an offer must stay as it is until it is taken
        under_way = deque()
        while True:
            await RisingEdge(dut.clk)
            if dut.reset.value == 1:
                under_way.clear()
                held = None
                s["finished"].value = 0
                s["command_ready"].value = 0
                continue
            if s["finished"].value == 1:
                self.bench.log.append(("end", self.name, self.bench.cycle, under_way.popleft()[1]))
            if held is not None:
                assert s["command_valid"].value == 1
                assert int(s["command_payload"].value) == held
            held = None
            if s["command_valid"].value == 1:
                payload = int(s["command_payload"].value)
                if s["command_ready"].value == 1:
                    instruction = self.format.decode(payload.to_bytes(INSTRUCTION_BYTES, "little"))
                    self.bench.log.append(("start", self.name, self.bench.cycle, instruction))
                    start = max([self.bench.cycle, *(ready for ready, _ in under_way)])
                    under_way.append((start + 2 + random.randint(*self.delay), instruction))
                else:
                    held = payload
            finish = bool(under_way) and under_way[0][0] <= self.bench.cycle and not self.stuck
            s["finished"].value = int(finish)
            s["command_ready"].value = int(len(under_way) < self.depth and random.random() >= self.hesitation)


class Bench:
    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.log = []
        self.words = {i: random.getrandbits(8 * WORD) for i in range(CONFIG.scratchpad_words)}
        self.memory = Memory(dut, "m_axi_mem", MEMORY_BYTES)
        self.memory.data[:] = random.randbytes(MEMORY_BYTES)
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_ctrl"), dut.clk, dut.rst)
        self.write_port = WritePort(dut, "load_port", self.words)
        self.read_port = ReadPort(dut, "store_port", self.words)
        dut.progress.value = dut.vector_conflict.value = 0
        self.matmul = Engine(self, "matmul", MATMUL)
        self.vector = Engine(self, "vector", VECTOR)
        cocotb.start_soon(self._count())

    async def _count(self):
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1

    async def start(self):
        await start_clock(self.dut)
        await self.write48("window_base", BASE)
        await self.write48("window_limit", LIMIT)
        await self.write("interrupt", 1)
        return self

    def stress(self, pause, conflicts, delay=(0, 30)):
        self.memory.set_pause(pause)
        self.write_port.probability = self.read_port.probability = 1 - conflicts
        self.matmul.delay = self.vector.delay = delay

    async def write(self, name, value):
        response = await self.host.write(register(name).offset, value.to_bytes(4, "little"))
        assert response.resp == 0

    async def read(self, name):
        response = await self.host.read(register(name).offset, 4)
        assert response.resp == 0
        return int.from_bytes(response.data, "little")

    async def write48(self, name, value):
        await self.write(f"{name}_low", value & 0xFFFFFFFF)
        await self.write(f"{name}_high", value >> 32)

    async def read48(self, name):
        return await self.read(f"{name}_low") | await self.read(f"{name}_high") << 32

    async def status(self):
        return status_fields(await self.read("status"))

    async def launch(self, program, at=PROGRAM):
        """Put a program, a list of instructions, into memory and start it."""
        image = b"".join(program)
        self.memory.data[at:at + len(image)] = image
        self.log.clear()
        await self.write48("program", at)
        await self.write("control", 1)

    async def interrupted(self, limit=50_000):
        for _ in range(limit):
            if self.dut.interrupt.value == 1:
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError("no interrupt")

    async def run(self, program, at=PROGRAM):
        await self.launch(program, at)
        await self.interrupted()
        assert await self.status() == status_of(done=1)

    async def fails(self, cause, address, refused=0):
        await self.interrupted()
        assert await self.status() == status_of(error=1, cause=cause.value, refused=refused)
        assert await self.read48("error_address") == address

    async def hangs(self, cause, address):
        """The program must be stopping for this cause, and tell so, but not end, since the memory does not answer."""
        for _ in range(200):
            if (await self.status())["stopping"]:
                break
        await cycles(self.dut.clk, 500)
        assert await self.status() == status_of(busy=1, stopping=1, cause=cause.value)
        assert self.dut.interrupt.value == 0
        if address is not None:
            assert await self.read48("error_address") == address

    async def soft_reset(self, limit=2000):
        """Make one, and wait until the bus owes nothing any more; nothing is read or written after that."""
        await self.write("control", 2)
        assert self.dut.interrupt.value == 0
        for _ in range(limit):
            if (await self.status()) == status_of():
                break
            assert await self.status() in (status_of(busy=1, stopping=1), status_of())
        else:
            raise AssertionError("the stop does not end")
        self.memory.taken = 0

    async def works(self):
        """A program that uses all engines runs to its end and does what it says."""
        address, target = DATA + 0x100 * BUS, DATA + 0x180 * BUS
        expected = bytes(self.memory.data[address:address + ROW_BYTES])
        await self.run([
            load(signal=between("load", "matmul"), address=address, scratchpad=32),
            matmul(wait=between("load", "matmul"), signal=between("matmul", "vector")),
            vector(wait=between("matmul", "vector"), signal=between("vector", "store")),
            store(wait=between("vector", "store"), address=target, scratchpad=32),
            END_,
        ])
        assert [(what, who) for what, who, _, _ in self.log] == [
            ("start", "matmul"), ("end", "matmul"), ("start", "vector"), ("end", "vector")]
        assert self.memory.data[target:target + ROW_BYTES] == expected


