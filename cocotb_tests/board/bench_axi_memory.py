"""Random bursts from two managers on one memory; numbers are those of AxiMemory's and AxiArbiter's rules."""

import logging
import random

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBurstType, AxiBus, AxiMaster, AxiResp

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.models import random_bits

PARAMETERS = bench_parameters()
BASE, SIZE, BEAT = PARAMETERS["base"], PARAMETERS["size"], PARAMETERS["bus_bits"] // 8
SPAN = 1 << (SIZE - 1).bit_length()


class Host:
    """A manager. All its bursts have ID 0, as those of the accelerator."""

    def __init__(self, dut, prefix):
        logging.getLogger(f"cocotb.{dut._name}.{prefix}").setLevel(logging.WARNING)
        self.master = AxiMaster(AxiBus.from_prefix(dut, prefix), dut.clk, dut.rst)

    def stress(self, probability):
        writes, reads = self.master.write_if, self.master.read_if
        for channel in (writes.aw_channel, writes.w_channel, writes.b_channel, reads.ar_channel, reads.r_channel):
            channel.clear_pause_generator()
            channel.pause = False
            if probability:
                channel.set_pause_generator(random_bits(probability))

    async def write(self, address, data, **options):
        return (await self.master.write(address, data, awid=0, **options)).resp

    async def read(self, address, length, **options):
        response = await self.master.read(address, length, arid=0, **options)
        return bytes(response.data), response.resp


async def hosts(dut):
    made = Host(dut, "first"), Host(dut, "second")
    await start_clock(dut)
    return made


async def fill(host):
    data = bytearray(random.randbytes(SIZE))
    assert await host.write(BASE, data) == AxiResp.OKAY
    return data


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def both_managers_find_what_they_wrote(dut):
    """Rules 1 and 3 of the memory, 1 and 2 of the arbiter: each manager writes bytes of its own, between those of
    the other, and reads what both wrote."""
    pair = await hosts(dut)
    expected = await fill(pair[0])

    async def traffic(index, host):
        for _ in range(60):
            if random.random() < 0.1:
                host.stress(random.choice([0.0, 0.3, 0.7]))
            size = random.choice([1, BEAT - 1, BEAT, BEAT + 1, random.randint(1, 700)])
            start = random.randrange(SIZE - size)
            if random.random() < 0.5:
                # Chunks of 256 bytes belong to the managers in turn.
                start = (start & ~0x1FF) + 256 * index + random.randrange(256)
                data = random.randbytes(min(size, 256 - start % 256))
                assert await host.write(BASE + start, data) == AxiResp.OKAY
                expected[start:start + len(data)] = data
            size = min(size, SIZE - start)
            found, response = await host.read(BASE + start, size)
            assert response == AxiResp.OKAY
            for offset, byte in enumerate(found, start):
                # The other one may be writing its own at this moment.
                assert offset // 256 % 2 != index or byte == expected[offset], hex(offset)

    for task in [cocotb.start_soon(traffic(index, host)) for index, host in enumerate(pair)]:
        await task
    for host in pair:
        host.stress(0.2)
        assert await host.read(BASE, SIZE) == (expected, AxiResp.OKAY)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reads_stream(dut):
    """Rule 1: from its first beat on, a burst has a beat in each cycle."""
    first, _ = await hosts(dut)
    await fill(first)
    task = cocotb.start_soon(first.read(BASE, 64 * BEAT))
    beats = []
    cycle = 0
    while not task.done():
        await RisingEdge(dut.clk)
        cycle += 1
        if dut.first_rvalid.value == 1 and dut.first_rready.value == 1:
            beats.append(cycle)
    assert len(beats) == 64
    assert beats[-1] - beats[0] == 63


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def outside_is_answered_with_an_error(dut):
    """Rule 4."""
    _, host = await hosts(dut)
    expected = await fill(host)
    host.stress(0.2)
    for address in (BASE - BEAT, BASE + SIZE, BASE + SPAN, BASE ^ SPAN, BASE ^ 1 << 31):
        assert await host.write(address, random.randbytes(BEAT)) == AxiResp.DECERR, hex(address)
        assert await host.read(address, BEAT) == (bytes(BEAT), AxiResp.DECERR), hex(address)
    # A transfer over the end: its last burst fails, the one before does not.
    data = random.randbytes(4 * BEAT)
    assert await host.write(BASE + SIZE - 2 * BEAT, data) == AxiResp.DECERR
    expected[-2 * BEAT:] = data[:2 * BEAT]
    found, response = await host.read(BASE + SIZE - 2 * BEAT, 4 * BEAT)
    assert (found, response) == (data[:2 * BEAT] + bytes(2 * BEAT), AxiResp.DECERR)
    assert await host.read(BASE, SIZE) == (expected, AxiResp.OKAY)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def other_bursts_are_refused(dut):
    """Rule 2."""
    host, _ = await hosts(dut)
    expected = await fill(host)
    for options in ({"burst": AxiBurstType.FIXED}, {"burst": AxiBurstType.WRAP}, {"size": 1}):
        # cocotbext-axi cuts a FIXED burst as it does an INCR one.
        assert await host.write(BASE, random.randbytes(4 * BEAT), **options) == AxiResp.SLVERR
        _, response = await host.read(BASE, 4 * BEAT, **options)
        assert response == AxiResp.SLVERR
    assert await host.read(BASE, BEAT, burst=AxiBurstType.FIXED) == (expected[:BEAT], AxiResp.OKAY)
    assert await host.read(BASE, SIZE) == (expected, AxiResp.OKAY)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def the_first_manager_goes_first(dut):
    """Rule 2 of the arbiter: of two that wait at the end of a burst. And the other one is not forgotten."""
    first, second = await hosts(dut)
    await fill(first)
    order = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            for name in ("first", "second"):
                if getattr(dut, f"{name}_arvalid").value == 1 and getattr(dut, f"{name}_arready").value == 1:
                    order.append(name)

    cocotb.start_soon(watch())
    long = cocotb.start_soon(second.read(BASE, 3 * 4096))  # a burst for each page, or more
    while not order:
        await RisingEdge(dut.clk)
    await cocotb.start_soon(first.read(BASE, BEAT))
    await long
    assert order[:3] == ["second", "first", "second"]
    assert order.count("first") == 1
