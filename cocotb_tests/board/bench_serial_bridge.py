"""Requests, broken requests and broken buses; numbers are those of SerialBridge's and FrameReceiver's rules."""

import logging
import random

import cocotb
from celosia.hdl.board.serial_frames import (
    BRIDGE_INFO,
    PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    REQUEST_START,
    Operation,
    Status,
)
from cocotb.triggers import Timer
from cocotbext.axi import AxiLiteBus, AxiLiteSlave

from cocotb_tests.board.serial_host import SerialHost, request
from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.models import Memory, cycles, random_bits

PARAMETERS = bench_parameters()
BEAT = PARAMETERS["bus_bits"] // 8
BIT_NS = 10 * PARAMETERS["divisor"]
SIZE = 4096  # of the memory, and of the registers
READ, WRITE = Operation.READ_MEMORY, Operation.WRITE_MEMORY


class Registers:
    """4 KiB of registers; ``accesses`` lists address and length of each write."""

    def __init__(self, dut):
        logging.getLogger(f"cocotb.{dut._name}.registers").setLevel(logging.WARNING)
        self.data = bytearray(SIZE)
        self.accesses = []
        self.slave = AxiLiteSlave(AxiLiteBus.from_prefix(dut, "registers"), dut.clk, dut.rst, target=self)

    async def read(self, address, length):
        return bytes(self.data[address:address + length])

    async def write(self, address, data):
        self.accesses.append((address, len(data)))
        self.data[address:address + len(data)] = data

    def stress(self, probability):
        writes, reads = self.slave.write_if, self.slave.read_if
        for channel in (writes.aw_channel, writes.w_channel, writes.b_channel, reads.ar_channel, reads.r_channel):
            channel.clear_pause_generator()
            channel.pause = False
            if probability:
                channel.set_pause_generator(random_bits(probability))


class Bench:
    def __init__(self, dut, bit_ns=BIT_NS):
        self.dut = dut
        self.host = SerialHost(dut, bit_ns, 10 * PARAMETERS["idle_cycles"])
        self.memory = Memory(dut, "memory", SIZE)
        self.registers = Registers(dut)

    async def start(self):
        self.memory.data[:] = random.randbytes(SIZE)
        await start_clock(self.dut)
        return self

    async def works(self):
        """An access of each kind does what it should."""
        data = random.randbytes(random.randint(1, 20))
        address = random.randrange(SIZE - len(data))
        assert await self.host.ask(WRITE, address, data) == (Status.OKAY, b"")
        assert self.memory.data[address:address + len(data)] == data
        assert await self.host.ask(READ, address, len(data)) == (Status.OKAY, data)
        assert await self.host.ask(Operation.WRITE_REGISTERS, 8, data[:4]) == (Status.OKAY, b"")
        assert self.registers.data[8:8 + len(data[:4])] == data[:4]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def hello_tells_where_the_memory_is(dut):
    """Rule 5."""
    bench = await Bench(dut).start()
    status, data = await bench.host.ask(Operation.HELLO)
    assert status is Status.OKAY
    assert BRIDGE_INFO.decode(data) == {
        "version": PROTOCOL_VERSION, "payload_bytes": PAYLOAD_BYTES, "memory_base": PARAMETERS["memory_base"],
        "memory_bytes": PARAMETERS["memory_bytes"]}
    for operation in (1, 6, 7, 0x80, 255):
        payload = b"data" if operation & 1 else 4
        assert await bench.host.ask(operation, 0, payload) == (Status.OPERATION, b"")
        assert dut.refused.value == 1
    await bench.works()
    assert dut.refused.value == 0


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def random_requests(dut):
    """Rule 2: any address and length, with pauses on both buses; what lies beside is not touched."""
    bench = await Bench(dut).start()
    expected, registers = bytearray(bench.memory.data), bytearray(SIZE)
    lengths = [1, BEAT - 1, BEAT, BEAT + 1, 3 * BEAT]
    jobs = [(random.random() < 0.5, random.random() < 0.3, random.choice([*lengths, random.randint(1, 60)]))
            for _ in range(30)] + [(True, False, PAYLOAD_BYTES), (False, False, PAYLOAD_BYTES)]
    for count, (write, on_registers, length) in enumerate(jobs):
        if count % 10 == 0:
            probability = (0.0, 0.3, 0.6, 0.0)[count // 10]
            bench.memory.set_pause(probability)
            bench.registers.stress(probability)
        model = registers if on_registers else expected
        address = random.randrange(SIZE - length + 1)
        if write:
            data = random.randbytes(length)
            operation = Operation.WRITE_REGISTERS if on_registers else WRITE
            assert await bench.host.ask(operation, address, data) == (Status.OKAY, b"")
            model[address:address + length] = data
        else:
            operation = Operation.READ_REGISTERS if on_registers else READ
            assert await bench.host.ask(operation, address, length) == (Status.OKAY, model[address:address + length])
    assert bench.memory.data == expected
    assert bench.registers.data == registers


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_wrong_checksum_changes_nothing(dut):
    """Rule 1; rule 3 of the receiver: it is deaf until the line was idle."""
    bench = await Bench(dut).start()
    before = bytes(bench.memory.data)
    for _ in range(6):
        frame = bytearray(request(WRITE, 16, random.randbytes(8), tag=77))
        frame[random.choice([2, *range(3, 7), *range(9, len(frame))])] ^= 1 << random.randrange(8)
        await bench.host.send(frame)
        assert await bench.host.reply() == (Status.CHECKSUM, b"")
        await bench.host.send(request(WRITE, 16, b"too soon"))
        assert await bench.host.silent()
        assert bench.memory.data == before
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def half_a_frame_is_forgotten(dut):
    """Rule 1 of the receiver: noise before a frame, a pause in it that is short enough, and one that is not."""
    bench = await Bench(dut).start()
    frame = request(WRITE, 100, b"half of a frame", tag=9)
    noise = bytes(byte for byte in random.randbytes(30) if byte != REQUEST_START)
    await bench.host.send(noise + frame[:12])
    await Timer(bench.host.idle_ns - 12 * BIT_NS, "ns")
    await bench.host.send(frame[12:])
    assert await bench.host.reply(9) == (Status.OKAY, b"")
    assert bench.memory.data[100:115] == b"half of a frame"
    before = bytes(bench.memory.data)
    for cut in (1, random.randrange(2, 9), 9, random.randrange(10, len(frame)), len(frame) - 1):
        await bench.host.send(request(WRITE, 200, b"half of a frame", tag=cut)[:cut])
        assert await bench.host.silent()
        assert bench.memory.data == before
        assert await bench.host.ask(READ, 100, 15) == (Status.OKAY, b"half of a frame")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def wrong_lengths_are_refused(dut):
    """Rule 2 of the receiver for writes; reads have no more to say than their header."""
    bench = await Bench(dut).start()
    for length in (0, PAYLOAD_BYTES + 1, 0xFFFF):
        for operation in (READ, Operation.READ_REGISTERS):
            assert await bench.host.ask(operation, 0, length) == (Status.LENGTH, b"")
        await bench.host.send(request(READ, 0, length).replace(bytes([REQUEST_START, READ.value]),
                                                               bytes([REQUEST_START, WRITE.value])))
        assert await bench.host.reply() == (Status.LENGTH, b"")
        await bench.host.idle()
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_break_ends_a_frame(dut):
    """Rule 3 of the receiver."""
    bench = await Bench(dut).start()
    frame = request(WRITE, 0, b"a frame with a break")
    before = bytes(bench.memory.data)
    for cut in (0, 5, 14):
        await bench.host.send(frame[:cut])
        dut.rx.value = 0
        await Timer(random.choice([10, 25]) * BIT_NS, "ns")
        dut.rx.value = 1
        await Timer(2 * BIT_NS, "ns")
        await bench.host.send(frame[cut:])
        assert await bench.host.silent()
    assert bench.memory.data == before
    dut.rx.value = 0  # shorter than half a bit: nothing
    await Timer(BIT_NS // 4, "ns")
    dut.rx.value = 1
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def an_error_of_the_bus_is_answered(dut):
    """Rule 3: words before the error have been written, none after it."""
    bench = await Bench(dut).start()
    bench.memory.bad = range(10 * BEAT, 11 * BEAT)
    before = bytes(bench.memory.data)
    assert await bench.host.ask(READ, 9 * BEAT + 1, 2 * BEAT) == (Status.BUS_ERROR, b"")
    data = random.randbytes(4 * BEAT)
    assert await bench.host.ask(WRITE, 8 * BEAT, data) == (Status.BUS_ERROR, b"")
    assert bench.memory.data[8 * BEAT:10 * BEAT] == data[:2 * BEAT]
    assert bench.memory.data[10 * BEAT:] == before[10 * BEAT:]
    for operation, payload in ((Operation.READ_REGISTERS, 4), (Operation.WRITE_REGISTERS, b"1234")):
        assert await bench.host.ask(operation, SIZE, payload) == (Status.BUS_ERROR, b"")
    assert bench.registers.accesses == []
    bench.memory.bad = range(0)
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_silent_bus_is_answered(dut):
    """Rule 3, and rule 2 of BusAccess: the bus recovers when the answer comes after all."""
    bench = await Bench(dut).start()
    for operation, payload in ((READ, BEAT), (WRITE, bytes(BEAT))):
        bench.memory.hanging = True
        assert await bench.host.ask(operation, 0, payload) == (Status.BUS_TIMEOUT, b"")
        assert await bench.host.ask(READ, 4 * BEAT, 1) == (Status.BUS_TIMEOUT, b"")
        assert await bench.host.ask(Operation.WRITE_REGISTERS, 4, b"1234") == (Status.OKAY, b"")
        bench.memory.hanging = False
        await cycles(dut.clk, 50)
        await bench.works()
    for name in ("ar", "aw", "w"):
        side = bench.memory.slave.read_if if name == "ar" else bench.memory.slave.write_if
        channel = getattr(side, f"{name}_channel")
        channel.pause = True
        operation, payload = (READ, BEAT) if name == "ar" else (WRITE, b"data" * (BEAT // 4))
        assert await bench.host.ask(operation, 0, payload) == (Status.BUS_TIMEOUT, b"")
        assert getattr(dut, f"memory_{name}valid").value == 1
        channel.pause = False
        await cycles(dut.clk, 50)
        await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_repeated_write_is_not_made_again(dut):
    """Rule 4."""
    bench = await Bench(dut).start()
    host, accesses = bench.host, bench.registers.accesses
    write = Operation.WRITE_REGISTERS
    for _ in range(3):
        assert await host.ask(write, 4, b"once", tag=200) == (Status.OKAY, b"")
    assert len(accesses) == 1
    frame = bytearray(request(write, 4, b"once", tag=200))
    frame[-1] ^= 1
    await host.send(frame)
    assert await host.reply() == (Status.CHECKSUM, b"")
    await host.idle()
    assert await host.ask(write, 4, b"once", tag=200) == (Status.OKAY, b""), "not the status of the broken one"
    assert len(accesses) == 1
    assert await host.ask(write, SIZE, b"none", tag=201) == (Status.BUS_ERROR, b"")
    assert await host.ask(write, SIZE, b"none", tag=201) == (Status.BUS_ERROR, b"")
    assert await host.ask(WRITE, 0, b"else", tag=201) == (Status.OKAY, b""), "another operation"
    assert bench.memory.data[:4] == b"else"
    assert await host.ask(write, 4, b"more", tag=200) == (Status.OKAY, b""), "another request came between"
    assert await host.ask(READ, 0, 4, tag=202) == (Status.OKAY, b"else")
    bench.memory.data[:4] = b"new!"
    assert await host.ask(READ, 0, 4, tag=202) == (Status.OKAY, b"new!"), "reads are made again"
    assert await host.ask(write, 4, b"more", tag=200) == (Status.OKAY, b"")
    await host.ask(Operation.HELLO, tag=3)
    assert await host.ask(write, 4, b"more", tag=200) == (Status.OKAY, b""), "a new host may use any tag"
    assert len(accesses) == 4


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def noise_never_hangs_the_bridge(dut):
    """Random bytes, some of which look like the start of a frame; then everything works."""
    bench = await Bench(dut).start()
    before = bytes(bench.memory.data), bytes(bench.registers.data)
    for _ in range(6):
        noise = bytearray(random.randbytes(random.randint(1, 60)))
        for _ in range(random.randrange(4)):
            noise[random.randrange(len(noise))] = REQUEST_START
        await bench.host.send(noise)
        # A reply has been sent when it is over: the longest ends with the checksum of a whole payload.
        while not await bench.host.silent():
            bench.host.sink.clear()
    assert (bench.memory.data, bench.registers.data) == before
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms", skip=PARAMETERS["divisor"] < 8)
async def another_clock_at_the_host(dut):
    """Two per cent off, either way."""
    for bit_ns in (round(BIT_NS * 0.98), round(BIT_NS * 1.02)):
        bench = await Bench(dut, bit_ns).start()
        for _ in range(5):
            await bench.works()
        bench.host.source._run_cr.cancel()
        bench.host.sink._run_cr.cancel()
