"""Drives a Datapath inside the simulator: places tensors in the scratchpad, gives commands, reads results."""

import random

import cocotb
import numpy as np
from celosia.firmware.machine.layout import curve_records
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import FIRST_PARAMETERS, MATMUL, ROW_RECORD, SECOND_PARAMETERS, VECTOR, Function, Opcode
from celosia.hdl.memory.interfaces import READ_LATENCY
from celosia.sim.golden import kernels
from celosia.sim.golden.parameters import Curve
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import start_clock


class DatapathDriver:
    """Tensors are rows of whole words; addresses are scratchpad words."""

    def __init__(self, dut, config: AcceleratorConfig):
        self.dut = dut
        self.config = config
        self.bump = 0
        self.under_way = {"matmul": 0, "vector": 0}

    async def start(self):
        dut = self.dut
        for name in ("matmul", "vector"):
            getattr(dut, f"{name}__command__valid").value = 0
        dut.load__enable.value = 0
        dut.store__enable.value = 0
        await start_clock(dut)
        cocotb.start_soon(self._count_finished())
        for half in ("half_0", "half_1"):
            cocotb.start_soon(self._watch(half))

    async def _count_finished(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            for engine in self.under_way:
                self.under_way[engine] -= int(getattr(self.dut, f"{engine}__finished").value)

    async def _watch(self, half: str) -> None:
        """Rule 2 of AccumulatorPortSignature."""
        memory = getattr(self.dut.accumulators, half).words
        while True:
            await RisingEdge(self.dut.clk)
            if int(memory.read_enable.value) and int(memory.write_enable.value):
                address = int(memory.read_address.value)
                assert address != int(memory.write_address.value), (
                    f"{half} of the accumulators reads word {address} while it is written")

    def allocate(self, words: int) -> int:
        """The first of ``words`` unused words."""
        address, self.bump = self.bump, self.bump + words
        assert self.bump <= self.config.scratchpad_words, "the test does not fit the scratchpad"
        return address

    async def write(self, address: int, content: bytes) -> None:
        """Write whole words through the load port, with idle cycles."""
        dut, size = self.dut, self.config.word_bytes
        dut.load__mask.value = (1 << (self.config.rows // self.config.lanes)) - 1
        for index in range(0, len(content), size):
            while random.random() < 0.1:
                await RisingEdge(dut.clk)
            dut.load__address.value = address + index // size
            dut.load__data.value = int.from_bytes(content[index:index + size], "little")
            dut.load__enable.value = 1
            await RisingEdge(dut.clk)
            while not dut.load__ready.value:
                await RisingEdge(dut.clk)
            dut.load__enable.value = 0

    async def read(self, address: int, words: int) -> bytes:
        """Read words through the store port."""
        dut, content = self.dut, b""
        for index in range(words):
            dut.store__address.value = address + index
            dut.store__enable.value = 1
            await RisingEdge(dut.clk)
            while not dut.store__ready.value:
                await RisingEdge(dut.clk)
            dut.store__enable.value = 0
            for _ in range(READ_LATENCY):
                await RisingEdge(dut.clk)
            content += dut.store__data.value.to_unsigned().to_bytes(self.config.word_bytes, "little")
        return content

    async def place(self, tensor: np.ndarray) -> tuple[int, int]:
        """Place a matrix of elements of one byte or more, its rows padded to whole words of each plane; returns address
        and row stride."""
        padded = -tensor.shape[1] % self.config.rows
        content = kernels.planes(np.pad(tensor, ((0, 0), (0, padded))), self.config.rows)
        stride = content.shape[1] // self.config.rows
        address = self.allocate(stride * content.shape[0])
        await self.write(address, content.tobytes())
        return address, stride

    async def fetch(self, address: int, shape: tuple[int, int], dtype=np.int8) -> np.ndarray:
        """Read back a matrix that was written row after row, in a plane for each byte of an element."""
        size, (m, n), word = np.dtype(dtype).itemsize, shape, self.config.rows
        content = await self.read(address, m * size * -(-n // word))
        elements = np.frombuffer(content, np.uint8).reshape(m, -1, size, word).swapaxes(2, 3)
        rows = np.ascontiguousarray(elements).view(np.dtype(dtype).newbyteorder("<")).reshape(m, -1)
        return rows[:, :n].astype(dtype)

    async def parameters(self, *records) -> int:
        """Place parameter records: each a list of dictionaries, one for each column."""
        config = self.config
        lanes, size = config.lanes, config.parameter_words * config.word_bytes
        content = b""
        for group in range(len(records[0]) // lanes):
            for record in records:
                form = FIRST_PARAMETERS if "bias" in record[0] else SECOND_PARAMETERS
                block = b"".join(form.encode(**column) for column in record[group * lanes:(group + 1) * lanes])
                content += block.ljust(size, b"\0")
        address = self.allocate(len(content) // config.word_bytes)
        await self.write(address, content)
        return address

    async def mask(self, keep: np.ndarray) -> int:
        """Place the mask bytes of a row of columns, a word for each group."""
        lanes, size = self.config.lanes, self.config.word_bytes
        content = b"".join(bytes(keep[g:g + lanes].astype(np.uint8)).ljust(size, b"\0")
                           for g in range(0, len(keep), lanes))
        address = self.allocate(len(content) // size)
        await self.write(address, content)
        return address

    async def load_curve(self, curve: Curve) -> None:
        """Place the chords of ``curve`` and have them loaded."""
        content = curve_records(curve).tobytes()
        address = self.allocate(-(-len(content) // self.config.word_bytes))
        await self.write(address, content)
        await self.vector(Function.LOAD_CURVE, parameters=address, shift=curve.width)

    async def row_records(self, records) -> int:
        """Place row records, contiguous."""
        content = b"".join(ROW_RECORD.encode(**record) for record in records)
        content += bytes(-len(content) % self.config.word_bytes)
        address = self.allocate(len(content) // self.config.word_bytes)
        await self.write(address, content)
        return address

    async def matmul(self, **fields) -> None:
        """Give a MATMUL command."""
        await self._command("matmul", MATMUL.encode(opcode=Opcode.MATMUL.value, **fields))

    async def vector(self, function: Function, **fields) -> None:
        """Give a VECTOR command."""
        await self._command("vector", VECTOR.encode(opcode=Opcode.VECTOR.value, function=function.value, **fields))

    async def _command(self, engine: str, instruction: bytes) -> None:
        dut = self.dut
        while random.random() < 0.2:
            await RisingEdge(self.dut.clk)
        payload = getattr(dut, f"{engine}__command__payload")
        payload.value = int.from_bytes(instruction, "little") & ((1 << len(payload)) - 1)
        valid = getattr(dut, f"{engine}__command__valid")
        valid.value = 1
        self.under_way[engine] += 1
        await RisingEdge(self.dut.clk)
        while not getattr(dut, f"{engine}__command__ready").value:
            await RisingEdge(self.dut.clk)
        valid.value = 0

    async def finish(self, *engines: str) -> None:
        """Wait until the engines (all, by default) have finished what they were given."""
        while any(self.under_way[engine] for engine in engines or self.under_way):
            await RisingEdge(self.dut.clk)
