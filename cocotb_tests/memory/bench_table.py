"""A table with many readers against a list of its words."""

import random

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

WIDTH, DEPTH, READERS = (bench_parameters()[name] for name in ("width", "depth", "readers"))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_reader_sees_what_was_written_last(dut):
    """In the same cycle, whatever the others read; a word that is written now is seen from the next cycle on."""
    dut.write_enable.value = dut.read_address.value = 0
    await start_clock(dut)
    bits, words = (DEPTH - 1).bit_length(), [None] * DEPTH
    for _ in range(500):
        enable, target, content = random.getrandbits(1), random.randrange(DEPTH), random.getrandbits(WIDTH)
        places = [random.choice([target, random.randrange(DEPTH)]) for _ in range(READERS)]
        dut.write_enable.value, dut.write_address.value, dut.write_data.value = enable, target, content
        dut.read_address.value = sum(place << bits * reader for reader, place in enumerate(places))
        await ReadOnly()
        # Words that nobody has written are anything, x included.
        for reader, place in enumerate(places):
            if words[place] is not None:
                found = dut.read_data.value[WIDTH * reader + WIDTH - 1:WIDTH * reader]
                assert int(found) == words[place]
        await RisingEdge(dut.clk)
        if enable:
            words[target] = content
    assert None not in words
