"""Random traffic on the registers, against the table that they are made from; numbers are those of Control's
rules."""

import random

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import constant_registers
from celosia.hdl.registers import COUNTERS, REGISTERS, Access, register
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.models import cycles, random_bits

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])
OFFSETS = {reg.offset: reg for reg in REGISTERS}
#: Bits that a read-write register keeps.
KEPT = {"interrupt": 1, "program_high": 0xFFFF, "window_base_high": 0xFFFF, "window_limit_high": 0xFFFF}


class Bench:
    def __init__(self, dut):
        self.dut = dut
        self.starts = self.resets = 0
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus"), dut.clk, dut.rst)
        for name in (*(bits.name for bits in register("status").bits), "error_address"):
            getattr(dut, f"status_{name}").value = 0
        for name, _ in COUNTERS:
            getattr(dut, f"counters_{name}").value = 0

    async def start(self):
        await start_clock(self.dut)
        cocotb.start_soon(self._count())
        return self

    async def _count(self):
        while True:
            await RisingEdge(self.dut.clk)
            self.starts += int(self.dut.start.value)
            self.resets += int(self.dut.reset.value)

    def stress(self, probability):
        writes, reads = self.host.write_if, self.host.read_if
        for channel in (writes.aw_channel, writes.w_channel, writes.b_channel,
                        reads.ar_channel, reads.r_channel):
            channel.set_pause_generator(random_bits(probability))

    async def write(self, offset, value):
        return (await self.host.write(offset, value.to_bytes(4, "little"))).resp

    async def read(self, offset):
        response = await self.host.read(offset, 4)
        return int.from_bytes(response.data, "little"), response.resp

    async def value(self, name):
        value, response = await self.read(register(name).offset)
        assert response == AxiResp.OKAY
        return value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def constants_can_be_read_and_not_written(dut):
    bench = await Bench(dut).start()
    for name, expected in constant_registers(CONFIG).items():
        assert await bench.value(name) == expected
        assert await bench.write(register(name).offset, 0xFFFFFFFF) == AxiResp.SLVERR
        assert await bench.value(name) == expected
    fields = {bits.name: await bench.value("config_array") >> bits.offset & ((1 << bits.width) - 1)
              for bits in register("config_array").bits}
    assert fields == {"rows": CONFIG.rows, "cols": CONFIG.cols, "lanes": CONFIG.lanes,
                      "bus_bytes": CONFIG.bus_bytes}


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def random_traffic_matches_the_table(dut):
    """Rules 1 to 3."""
    bench = await Bench(dut).start()
    expected = {reg.name: reg.reset for reg in REGISTERS} | constant_registers(CONFIG)
    for _ in range(400):
        if random.random() < 0.02:
            bench.stress(random.choice([0.0, 0.3, 0.7]))
        offset = random.choice([*OFFSETS, *OFFSETS, random.randrange(0, 4096, 4)])
        reg = OFFSETS.get(offset)
        if random.random() < 0.5:
            value, response = await bench.read(offset)
            assert response == (AxiResp.SLVERR if reg is None else AxiResp.OKAY)
            assert value == (0 if reg is None else expected[reg.name])
            continue
        first = random.randrange(4)  # of the bytes that are written
        data = random.randbytes(random.randint(1, 4 - first))
        response = (await bench.host.write(offset + first, data)).resp
        if reg is None or reg.access is Access.READ:
            assert response == AxiResp.SLVERR
            continue
        assert response == AxiResp.OKAY
        if reg.access is Access.WRITE:
            whole = bytearray(expected[reg.name].to_bytes(4, "little"))
            whole[first:first + len(data)] = data
            expected[reg.name] = int.from_bytes(whole, "little") & KEPT.get(reg.name, 0xFFFFFFFF)
    for name in ("program", "window_base", "window_limit"):
        whole = expected[f"{name}_low"] | expected[f"{name}_high"] << 32
        assert int(getattr(dut, name).value) == whole
    assert int(dut.watchdog.value) == expected["watchdog"]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def write_data_may_come_before_its_address(dut):
    """Rule 1."""
    bench = await Bench(dut).start()
    for late in ("w_channel", "aw_channel"):
        value = random.getrandbits(32)
        getattr(bench.host.write_if, late).pause = True
        task = cocotb.start_soon(bench.write(register("watchdog").offset, value))
        await cycles(dut.clk, 20)
        assert int(dut.watchdog.value) != value
        assert dut.bus_bvalid.value == 0
        getattr(bench.host.write_if, late).pause = False
        assert await task == AxiResp.OKAY
        assert int(dut.watchdog.value) == value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def commands_are_pulses(dut):
    """Rules 3 and 4."""
    bench = await Bench(dut).start()
    control = register("control").offset
    for value, starts, resets in ((1, 1, 0), (2, 0, 1), (3, 0, 1), (0, 0, 0), (0xFFFFFFFC, 0, 0)):
        bench.starts = bench.resets = 0
        assert await bench.write(control, value) == AxiResp.OKAY
        await cycles(dut.clk, 5)
        assert (bench.starts, bench.resets) == (starts, resets)
    bench.starts = bench.resets = 0
    assert (await bench.host.write(control + 1, b"\xff\xff\xff")).resp == AxiResp.OKAY
    await cycles(dut.clk, 5)
    assert (bench.starts, bench.resets) == (0, 0), "the strobe of the first byte is missing"
    assert await bench.value("control") == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def status_and_counters_are_shown(dut):
    bench = await Bench(dut).start()
    for cause in (0, 1, 2, 4, 8, 0):
        numbers = {name: random.getrandbits(CONFIG.counter_bits) for name, _ in COUNTERS}
        for name, number in numbers.items():
            getattr(dut, f"counters_{name}").value = number
        address = random.getrandbits(48)
        dut.status_error_address.value = address
        fields = {bits.name: random.getrandbits(1) for bits in register("status").bits}
        fields["cause"] = cause
        for name, value in fields.items():
            getattr(dut, f"status_{name}").value = value
        for name, number in [*numbers.items(), ("error_address", address if cause else 0)]:
            assert await bench.value(f"{name}_low") == number & 0xFFFFFFFF
            assert await bench.value(f"{name}_high") == number >> 32
        status = await bench.value("status")
        assert status == sum(fields[bits.name] << bits.offset for bits in register("status").bits)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_interrupt_stays_until_acknowledged(dut):
    """Rule 5."""
    bench = await Bench(dut).start()
    interrupt = register("interrupt").offset
    for flag in (dut.status_done, dut.status_error):
        flag.value = 1
        await cycles(dut.clk, 3)
        assert dut.interrupt.value == 0, "not enabled"
        await bench.write(interrupt, 1)
        await cycles(dut.clk, 3)
        assert dut.interrupt.value == 1
        await bench.write(interrupt, 3)
        await cycles(dut.clk, 3)
        assert dut.interrupt.value == 0
        assert await bench.value("interrupt") == 1
        flag.value = 0
        await cycles(dut.clk, 3)
        await bench.write(interrupt, 3)  # before the end: acknowledges nothing
        flag.value = 1
        await cycles(dut.clk, 3)
        assert dut.interrupt.value == 1
        await bench.write(interrupt, 0)
        await cycles(dut.clk, 3)
        assert dut.interrupt.value == 0
        flag.value = 0
        await cycles(dut.clk, 3)
