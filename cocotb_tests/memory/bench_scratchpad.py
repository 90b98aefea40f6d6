"""Every reader and writer of the scratchpad at once, against a dictionary of words and the order of priority."""

import random
from collections import deque

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.memory.interfaces import READ_LATENCY
from celosia.hdl.memory.scratchpad import READERS, WRITERS
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

CONFIG = AcceleratorConfig(**bench_parameters())
SLICES = CONFIG.rows // CONFIG.lanes
SLICE_BITS = 8 * CONFIG.lanes
PORTS = (*READERS, *WRITERS)


def bank(address):
    return address // CONFIG.bank_words


class Bench:
    """Drives all ports and predicts ``ready`` and ``data``. ``words[w]`` holds a word's slices; None: undefined."""

    def __init__(self, dut):
        self.dut = dut
        self.words = {}
        self.wanted = dict.fromkeys(PORTS)  # address, and for writers data and mask
        self.due = {name: deque([None] * READ_LATENCY) for name in READERS}
        self.granted = dict.fromkeys(PORTS, 0)
        self.refused = dict.fromkeys(PORTS, 0)
        for name in PORTS:
            self.signal(name, "enable").value = 0

    def signal(self, port, name):
        return getattr(self.dut, f"{port}__{name}")

    def request(self, name, address, data=None, mask=0):
        """Ask for an access in the coming cycle; None: for none. The other signals are then noise."""
        self.wanted[name] = None if address is None else (address, data, mask)
        self.signal(name, "enable").value = address is not None
        self.signal(name, "address").value = random.randrange(CONFIG.scratchpad_words) if address is None else address
        if name in WRITERS:
            self.signal(name, "data").value = random.getrandbits(8 * CONFIG.rows) if data is None else data
            self.signal(name, "mask").value = random.getrandbits(SLICES) if address is None else mask

    async def cycle(self):
        """The coming cycle; returns who was granted its access."""
        await RisingEdge(self.dut.clk)
        for name in READERS:
            expected = self.due[name].popleft()
            if expected is not None:
                word = int(self.signal(name, "data").value)
                for index, part in enumerate(expected):
                    found = word >> index * SLICE_BITS & (1 << SLICE_BITS) - 1
                    assert part is None or found == part, f"{name}, slice {index}"
        granted = [*self.arbitrate(READERS), *self.arbitrate(WRITERS)]
        written = {self.wanted[name][0]: self.wanted[name] for name in WRITERS if name in granted}
        for name in READERS:
            word = None
            # Of a word that is written in the same cycle rule 3 says nothing.
            if name in granted and self.wanted[name][0] not in written:
                word = list(self.words.get(self.wanted[name][0], [None] * SLICES))
            self.due[name].append(word)
        for address, data, mask in written.values():
            parts = self.words.setdefault(address, [None] * SLICES)
            for index in range(SLICES):
                if mask >> index & 1:
                    parts[index] = data >> index * SLICE_BITS & (1 << SLICE_BITS) - 1
        return granted

    def arbitrate(self, names):
        """Of those that want the same bank the first of ``names`` is granted; ``ready`` must say so."""
        taken, granted = set(), []
        for name in names:
            if self.wanted[name] is None:
                continue
            free = bank(self.wanted[name][0]) not in taken
            assert self.signal(name, "ready").value == free, name
            taken.add(bank(self.wanted[name][0]))
            self.granted[name] += free
            self.refused[name] += not free
            if free:
                granted.append(name)
        return granted


class Addresses:
    """Random addresses: all over, or of few words at the edges of banks so that reads meet writes."""

    def __init__(self):
        edges = [b * CONFIG.bank_words for b in range(CONFIG.scratchpad_banks)]
        self.few = [*edges, *(edge + CONFIG.bank_words - 1 for edge in edges)]

    def __call__(self):
        return random.choice(self.few) if random.random() < 0.7 else random.randrange(CONFIG.scratchpad_words)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_traffic_matches_the_model(dut):
    """Requests come at all rates; a refused one is repeated or dropped."""
    bench, address = Bench(dut), Addresses()
    await start_clock(dut)
    for rate in (0.1, 0.5, 0.9, 1.0):
        granted = PORTS
        for _ in range(1000):
            for name in PORTS:
                if name not in granted and bench.wanted[name] and random.random() < 0.8:
                    continue
                if random.random() >= rate:
                    bench.request(name, None)
                elif name in READERS:
                    bench.request(name, address())
                else:
                    bench.request(name, address(), random.getrandbits(8 * CONFIG.rows), random.getrandbits(SLICES))
            granted = await bench.cycle()
    assert bench.refused["weights"] == bench.refused["vector"] == 0, "these are always ready"
    for name in PORTS:
        assert bench.granted[name] > 200
        assert bench.refused[name] > 50 or name in ("weights", "vector")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def different_banks_are_used_at_once(dut):
    """As many readers as there are banks, and both writers, proceed in each cycle."""
    bench = Bench(dut)
    await start_clock(dut)
    for _ in range(100):
        banks = random.sample(range(CONFIG.scratchpad_banks), min(CONFIG.scratchpad_banks, len(READERS)))
        for name in PORTS:
            bench.request(name, None)
        readers = random.sample(READERS, len(banks))
        for name, chosen in zip(readers, banks, strict=True):
            bench.request(name, chosen * CONFIG.bank_words + random.randrange(CONFIG.bank_words))
        for name, chosen in zip(WRITERS, banks, strict=False):
            bench.request(name, chosen * CONFIG.bank_words, random.getrandbits(8 * CONFIG.rows), (1 << SLICES) - 1)
        assert set(await bench.cycle()) == {*readers, *WRITERS}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_read_in_the_next_cycle_returns_what_was_written(dut):
    """Rule 3, for each writer, reader, bank and slice."""
    bench = Bench(dut)
    await start_clock(dut)
    for writer in WRITERS:
        for reader in READERS:
            for index in range(CONFIG.scratchpad_banks):
                address = index * CONFIG.bank_words + random.randrange(CONFIG.bank_words)
                masks = [(1 << SLICES) - 1, *(1 << part for part in range(SLICES))]
                for mask in masks:
                    bench.request(writer, address, random.getrandbits(8 * CONFIG.rows), mask)
                    await bench.cycle()
                    bench.request(writer, None)
                    bench.request(reader, address)
                    await bench.cycle()
                    bench.request(reader, None)
                assert None not in bench.words[address]
    for _ in range(READ_LATENCY):
        await bench.cycle()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_content_survives_a_reset(dut):
    bench = Bench(dut)
    await start_clock(dut)
    everywhere = range(0, CONFIG.scratchpad_words, 7)
    for address in everywhere:
        bench.request("load", address, random.getrandbits(8 * CONFIG.rows), (1 << SLICES) - 1)
        await bench.cycle()
    bench.request("load", None)
    dut.rst.value = 1
    await bench.cycle()
    dut.rst.value = 0
    for address in everywhere:
        bench.request("store", address)
        await bench.cycle()
    bench.request("store", None)
    for _ in range(READ_LATENCY):
        await bench.cycle()
