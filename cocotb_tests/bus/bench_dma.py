"""Transfers between a DRAM model and a scratchpad model, compared byte for byte; numbers are those of the
rules."""

import random
from dataclasses import dataclass

import cocotb
from celosia.hdl.bus.bursts import BURST_BEATS
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import TRANSFER, Opcode
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.models import CommandDriver, Memory, ReadPort, WritePort, cycles, sampled

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])
BUS, WORD = CONFIG.bus_bytes, CONFIG.word_bytes
MEMORY_BYTES = 1 << 17
BASE, LIMIT = 0x1000, 0x1F000


@dataclass
class Transfer:
    dram_address: int
    count: int
    dram_stride: int
    words: int
    scratchpad: int
    scratchpad_stride: int

    def encode(self, opcode):
        return TRANSFER.encode(opcode=opcode.value, **vars(self))

    def pairs(self):
        """DRAM address and scratchpad word of each word, in order."""
        for row in range(self.count):
            for word in range(self.words):
                yield (self.dram_address + row * self.dram_stride + word * WORD,
                       (self.scratchpad + row * self.scratchpad_stride + word) % CONFIG.scratchpad_words)


class Bench:
    def __init__(self, dut, pause, conflicts, gap=0.0, latency=0):
        self.dut = dut
        self.words = {i: random.getrandbits(8 * WORD) for i in range(CONFIG.scratchpad_words)}
        self.memory = Memory(dut, "bus", MEMORY_BYTES, pause, latency)
        self.memory.data[:] = random.randbytes(MEMORY_BYTES)
        # First the ports: a word that is written in the cycle of a `finished` is there when that is counted.
        self.write_port = WritePort(dut, "load_port", self.words, 1 - conflicts)
        self.read_port = ReadPort(dut, "store_port", self.words, 1 - conflicts)
        self.load = CommandDriver(dut, "load", gap)
        self.store = CommandDriver(dut, "store", gap)
        dut.window_base.value = BASE
        dut.window_limit.value = LIMIT
        dut.soft_reset.value = 0

    async def start(self):
        await start_clock(self.dut)
        return self

    def stress(self, pause, conflicts):
        """From now on: pauses on the bus, conflicts at the scratchpad and gaps between instructions."""
        self.memory.set_pause(pause)
        self.write_port.probability = self.read_port.probability = 1 - conflicts
        self.load.gap = self.store.gap = conflicts

    def word_at(self, address):
        return int.from_bytes(self.memory.data[address:address + WORD], "little")

    async def until(self, condition, limit=100_000):
        for _ in range(limit):
            if condition():
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError("waited too long")

    async def reset(self):
        self.dut.soft_reset.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.soft_reset.value = 0
        await RisingEdge(self.dut.clk)
        self.load.finished = self.store.finished = 0

    async def quiet(self):
        await self.until(lambda: self.dut.quiet.value == 1)

    def check_errors(self):
        for name in ("load_outside", "load_bus_error", "store_outside", "store_bus_error"):
            assert getattr(self.dut, name).value == 0, name


def random_transfer(span=MEMORY_BYTES, low=BASE, high=LIMIT):
    """A transfer inside [low, high) whose rows overlap neither in DRAM nor in the scratchpad."""
    burst_words = max(1, BURST_BEATS * BUS // WORD)
    while True:
        words = random.choice([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33])
        if random.random() < 0.2:
            words = burst_words + random.choice([-1, 0, 1])
        count = random.choice([1, 1, 2, 3, 5, 8]) if words < 64 else random.choice([1, 2])
        row_bytes = -(-words * WORD // BUS) * BUS
        stride = row_bytes + BUS * random.choice([0, 0, 1, 7])
        total = (count - 1) * stride + row_bytes
        if total > high - low:
            continue
        if random.random() < 0.5:  # around a 4 KiB edge
            edge = random.randrange(low // 4096 + 1, high // 4096) * 4096
            address = edge - BUS * random.choice([1, 2, 3, BURST_BEATS - 1, BURST_BEATS, BURST_BEATS + 1])
        else:
            address = random.randrange(low // BUS, high // BUS) * BUS
        if address < low or address + total > high:
            continue
        word_stride = words + random.choice([0, 0, 1, 5])
        scratchpad = random.randrange(CONFIG.scratchpad_words)  # wraps at the end
        return Transfer(address, count, stride, words, scratchpad, word_stride)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def loads_store_every_word_and_no_other(dut):
    bench = await Bench(dut, 0.0, 0.0).start()
    for pause, conflicts in [(0.0, 0.0), (0.3, 0.3), (0.6, 0.1), (0.0, 0.6)]:
        bench.stress(pause, conflicts)
        for _ in range(4):
            before = dict(bench.words)
            transfers, touched = [], set()
            while len(transfers) < 8:
                transfer = random_transfer()
                target = {word for _, word in transfer.pairs()}
                if not touched & target:
                    touched |= target
                    transfers.append(transfer)
            bench.load.finished = 0
            for transfer in transfers:
                await bench.load.send(transfer.encode(Opcode.LOAD))
            await bench.until(lambda: bench.load.finished == len(transfers))  # noqa: B023
            for transfer in transfers:
                for address, word in transfer.pairs():
                    before[word] = bench.word_at(address)
            assert bench.words == before
            bench.check_errors()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stores_write_their_bytes_and_no_other(dut):
    bench = await Bench(dut, 0.0, 0.0).start()
    for pause, conflicts in [(0.0, 0.0), (0.3, 0.3), (0.6, 0.1), (0.0, 0.6)]:
        bench.stress(pause, conflicts)
        for _ in range(4):
            expected = bytearray(bench.memory.data)
            bench.memory.written = bytearray(MEMORY_BYTES)
            counts = bytearray(MEMORY_BYTES)
            transfers = [random_transfer() for _ in range(8)]
            bench.store.finished = 0
            for transfer in transfers:
                await bench.store.send(transfer.encode(Opcode.STORE))
                for address, word in transfer.pairs():
                    expected[address:address + WORD] = bench.words[word].to_bytes(WORD, "little")
                    for i in range(address, address + WORD):
                        counts[i] += 1
            await bench.until(lambda: bench.store.finished == len(transfers))  # noqa: B023
            assert bench.memory.data == expected
            assert bench.memory.written == counts
            bench.check_errors()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def loads_finish_only_when_stored_and_stores_when_answered(dut):
    """Rule 2."""
    bench = await Bench(dut, 0.2, 0.2).start()
    sent = []

    def load_finished():
        transfer = sent[bench.load.finished - 1]
        assert all(bench.words[word] == bench.word_at(address) for address, word in transfer.pairs())

    def store_finished():
        transfer = sent[bench.store.finished - 1]
        assert all(bench.words[word] == bench.word_at(address) for address, word in transfer.pairs())

    bench.load.on_finish = load_finished
    for i in range(6):  # into areas of their own
        transfer = Transfer(BASE + i * 0x2000, 3, 32 * BUS, 7, 40 * i, 9)
        sent.append(transfer)
        await bench.load.send(transfer.encode(Opcode.LOAD))
    await bench.until(lambda: bench.load.finished == 6)
    sent.clear()
    bench.store.on_finish = store_finished
    for i in range(6):
        transfer = Transfer(BASE + i * 0x2000 + 0x1000, 3, 32 * BUS, 7, 40 * i + 11, 9)
        sent.append(transfer)
        await bench.store.send(transfer.encode(Opcode.STORE))
    await bench.until(lambda: bench.store.finished == 6)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def consecutive_loads_stream_without_a_gap(dut):
    """Rule 1. The model reads bursts back to back once it has begun."""
    bench = await Bench(dut, 0.0, 0.0).start()
    row_bytes = 32 * max(WORD, BUS)
    transfers = [Transfer(BASE + i * 4 * row_bytes, 4, row_bytes, row_bytes // WORD, 0, 0) for i in range(4)]
    beats = taken = 0
    first = last = None

    async def watch():
        nonlocal beats, first, last, taken
        cycle = 0
        while True:
            await RisingEdge(dut.clk)
            cycle += 1
            if dut.bus_rvalid.value == 1:
                taken += dut.bus_rready.value == 1
                if first is None:
                    first = cycle
                if dut.bus_rready.value == 1:
                    beats, last = beats + 1, cycle

    cocotb.start_soon(watch())
    for transfer in transfers:
        await bench.load.send(transfer.encode(Opcode.LOAD))
    await bench.until(lambda: bench.load.finished == len(transfers))
    total = 16 * row_bytes // BUS
    assert beats == total
    busiest = total * max(1, BUS // WORD)  # the scratchpad takes a word a cycle
    dut._log.info("%d beats in %d cycles, at best %d", beats, last - first + 1, busiest)
    # The model itself pauses between bursts that it has to wait for; with one burst outstanding it always
    # does.
    slack = 0.15 if CONFIG.outstanding_reads > 1 else 1.0
    assert last - first + 1 <= busiest * (1 + slack)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def bursts_keep_their_rules(dut):
    """Length, alignment, 4 KiB, window, and the number outstanding, of both directions."""
    bench = await Bench(dut, 0.2, 0.2).start()
    outstanding = 0

    async def watch():
        nonlocal outstanding
        while True:
            await RisingEdge(dut.clk)
            for channel in ("ar", "aw"):
                signals = {name: getattr(dut, f"bus_{channel}{name}")
                           for name in ("valid", "ready", "addr", "len", "size", "burst")}
                if signals["valid"].value == 1 and signals["ready"].value == 1:
                    first = sampled(signals["addr"])
                    end = first + (sampled(signals["len"]) + 1) * BUS
                    assert first % BUS == 0
                    assert sampled(signals["len"]) < BURST_BEATS
                    assert first // 4096 == (end - 1) // 4096
                    assert BASE <= first < end <= LIMIT
                    assert 1 << sampled(signals["size"]) == BUS
                    assert sampled(signals["burst"]) == 1
                    outstanding += channel == "ar"
            if dut.bus_rvalid.value == 1 and dut.bus_rready.value == 1 and dut.bus_rlast.value == 1:
                outstanding -= 1
            assert 0 <= outstanding <= CONFIG.outstanding_reads

    cocotb.start_soon(watch())
    for _ in range(12):
        await bench.load.send(random_transfer().encode(Opcode.LOAD))
        await bench.store.send(random_transfer().encode(Opcode.STORE))
    await bench.until(lambda: bench.load.finished == 12 and bench.store.finished == 12)


def outside_transfers():
    words = 2 * max(1, BUS // WORD)
    row = words * WORD
    for address in (0, BASE - BUS, LIMIT - row + BUS, LIMIT):
        yield Transfer(address, 1, 0, words, 0, 0)
    yield Transfer(BASE, 3, LIMIT - BASE - row, words, 0, 0)  # the third row
    if CONFIG.address_bits < 48:
        yield Transfer((1 << CONFIG.address_bits) + BASE, 1, 0, words, 0, 0)
    # Wraps around the end of the address space into the window.
    yield Transfer((1 << 48) - 4096, 2, 4096 + BASE, words, 0, 0)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_burst_outside_the_window_is_never_issued(dut):
    """Rule 4, and recovery by a soft reset."""
    bench = await Bench(dut, 0.1, 0.1).start()
    for transfer in outside_transfers():
        for name, driver, opcode in [("load", bench.load, Opcode.LOAD), ("store", bench.store, Opcode.STORE)]:
            good = random_transfer()
            await driver.send(good.encode(opcode))
            await driver.send(transfer.encode(opcode))
            flag = getattr(dut, f"{name}_outside")
            await bench.until(lambda: flag.value == 1)  # noqa: B023
            assert driver.finished == 1, "raised only when the instruction is the oldest"
            await cycles(dut.clk, 50)
            assert flag.value == 1
            assert all(BASE <= address < LIMIT for address in bench.memory.reads)
            assert not any(bench.memory.written[:BASE])
            assert not any(bench.memory.written[LIMIT:])
            await bench.reset()
            assert flag.value == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def the_last_bytes_of_the_window_can_be_used(dut):
    bench = await Bench(dut, 0.0, 0.0).start()
    words = 4 * max(1, BUS // WORD)
    for address in (BASE, LIMIT - words * WORD):
        transfer = Transfer(address, 1, 0, words, 3, 0)
        bench.load.finished = bench.store.finished = 0
        await bench.load.send(transfer.encode(Opcode.LOAD))
        await bench.until(lambda: bench.load.finished == 1)
        await bench.store.send(transfer.encode(Opcode.STORE))
        await bench.until(lambda: bench.store.finished == 1)
    bench.check_errors()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def error_responses_are_reported_for_their_instruction(dut):
    """Rule 4."""
    bench = await Bench(dut, 0.2, 0.2).start()
    words = 8 * max(1, BUS // WORD)
    for name, driver, opcode in [("load", bench.load, Opcode.LOAD), ("store", bench.store, Opcode.STORE)]:
        bad_address = BASE + 0x4000
        bench.memory.bad = range(bad_address + words * WORD // 2, bad_address + words * WORD)
        await driver.send(Transfer(BASE, 3, 0x100 * BUS // 8, words, 0, 0).encode(opcode))
        await driver.send(Transfer(bad_address, 1, 0, words, 0, 0).encode(opcode))
        flag = getattr(dut, f"{name}_bus_error")
        await bench.until(lambda: flag.value == 1)  # noqa: B023
        assert driver.finished == 1
        await bench.reset()
        bench.memory.bad = range(0)
        await after_reset(bench)


async def after_reset(bench):
    """Nothing is owed any more, and both engines work as new."""
    await bench.quiet()
    for name in ("arvalid", "awvalid", "wvalid"):
        assert getattr(bench.dut, f"bus_{name}").value == 0, name
    bench.load.finished = bench.store.finished = 0
    load, store = random_transfer(BASE), random_transfer()
    before = dict(bench.words)
    await bench.load.send(load.encode(Opcode.LOAD))
    await bench.until(lambda: bench.load.finished == 1)
    for address, word in load.pairs():
        before[word] = bench.word_at(address)
    assert bench.words == before
    expected = bytearray(bench.memory.data)
    await bench.store.send(store.encode(Opcode.STORE))
    await bench.until(lambda: bench.store.finished == 1)
    for address, word in store.pairs():
        expected[address:address + WORD] = bench.words[word].to_bytes(WORD, "little")
    assert bench.memory.data == expected
    bench.check_errors()
    bench.load.finished = bench.store.finished = 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_reset_at_any_time_completes_the_bursts(dut):
    """Rule 5. The AXI models assert that each burst is completed."""
    bench = await Bench(dut, 0.3, 0.3, latency=10).start()
    for round in range(25):
        bench.memory.hanging = round % 3 == 0
        stop = False

        async def keep(driver, opcode):
            for _ in range(3):
                if not stop:  # noqa: B023
                    await driver.send(random_transfer().encode(opcode))

        tasks = [cocotb.start_soon(keep(bench.load, Opcode.LOAD)),
                 cocotb.start_soon(keep(bench.store, Opcode.STORE))]
        await cycles(dut.clk, random.randrange(1, 150))
        stop = True
        for task in tasks:
            task.cancel()
        dut.load_command_valid.value = 0
        dut.store_command_valid.value = 0
        await bench.reset()
        if bench.memory.hanging:
            await cycles(dut.clk, 50)
            bench.memory.hanging = False
        await after_reset(bench)
