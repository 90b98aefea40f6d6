"""Programs in a DRAM model, run by the control side; the matmul and the vector engine are models with random
delays."""

import random

import cocotb
from celosia.hdl.isa import (
    END,
    FORMATS,
    INSTRUCTION_BYTES,
    SEMAPHORE_BITS,
    SEMAPHORES,
    Function,
    Opcode,
)
from celosia.hdl.registers import COUNTERS, LOSSES, ErrorCause
from cocotb.triggers import FallingEdge, RisingEdge

from cocotb_tests.control.sequencer_driver import (
    BASE,
    BUS,
    CONFIG,
    DATA,
    END_,
    LIMIT,
    PROGRAM,
    ROW_BYTES,
    ROW_WORDS,
    Bench,
    load,
    matmul,
    store,
    vector,
)
from cocotb_tests.models import cycles, status_of


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_program_runs(dut):
    bench = await Bench(dut).start()
    await bench.works()
    await bench.works()
    for pause, conflicts in [(0.4, 0.0), (0.2, 0.5)]:
        bench.stress(pause, conflicts)
        await bench.works()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def an_empty_program_ends_at_once(dut):
    bench = await Bench(dut).start()
    await bench.run([END_])
    assert await bench.read48("instructions") == 1
    # What was read ahead is waited for: two blocks.
    assert await bench.read48("cycles") < 60 + 2 * 16 * INSTRUCTION_BYTES // BUS


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def programs_of_any_length_at_any_place(dut):
    bench = await Bench(dut).start()
    for length in (0, 1, 14, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 100):
        at = PROGRAM + random.randrange(0, 64) * BUS
        if random.random() < 0.3:
            at = 0x2000 - random.randrange(0, 8) * BUS  # over a 4 KiB edge
        await bench.run([matmul(tag=i) if i % 2 else vector(tag=i) for i in range(length)] + [END_], at)
        for who, parity in (("matmul", 1), ("vector", 0)):
            started = [i["tag"] for what, name, _, i in bench.log if what == "start" and name == who]
            assert started == [i for i in range(length) if i % 2 == parity]
        assert await bench.read48("instructions") == length + 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_program_may_end_at_the_end_of_the_window(dut):
    """Fetch rule 2: reading ahead never fails."""
    bench = await Bench(dut).start()
    for length in (0, 1, 7, 16, 20):
        await bench.run([matmul()] * length + [END_], LIMIT - (length + 1) * INSTRUCTION_BYTES)
    # Amid a block that is read ahead, and amid a beat.
    for length in (0, 1, 7, 16, 20):
        for instructions in (1, random.randrange(2, 15), 15):
            end = LIMIT - instructions * INSTRUCTION_BYTES
            await bench.write48("window_limit", end + random.choice([0, 1, BUS - 1]))
            await bench.run([matmul()] * length + [END_], end - (length + 1) * INSTRUCTION_BYTES)
    assert all(BASE <= address < LIMIT for address in bench.memory.reads)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_dependent_starts_four_cycles_after_its_operand(dut):
    """Issue rule 2."""
    bench = await Bench(dut).start()
    bench.vector.hesitation = 0
    for _ in range(4):
        await bench.run([matmul(signal=1), vector(wait=1), END_])
        end = next(cycle for what, who, cycle, _ in bench.log if (what, who) == ("end", "matmul"))
        start = next(cycle for what, who, cycle, _ in bench.log if (what, who) == ("start", "vector"))
        assert start == end + 4


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def semaphores_order_random_programs(dut):
    """Rules 1, 3 and 4 of the instruction set, replayed from the engines' logs."""
    bench = await Bench(dut).start()
    for _ in range(12):
        bench.stress(random.choice([0, 0.3]), random.choice([0, 0.3]), (0, random.choice([0, 3, 60])))
        program, count = [], random.choice([3, 17, 40, 60])
        # No program may deadlock: what an instruction takes was given before it in the program, and only one
        # engine takes a semaphore, so that none is taken away by a later instruction of another one.
        available = [0] * SEMAPHORES
        taker = [random.choice([matmul, vector, load, store]) for _ in range(SEMAPHORES)]
        for i in range(count):
            make = random.choice([matmul, vector, matmul, vector, load, store])
            wait = 0
            for s in range(SEMAPHORES):
                if taker[s] is make and available[s] and random.random() < 0.3:
                    available[s] -= 1
                    wait |= 1 << s
            signal = sum(1 << s for s in range(SEMAPHORES) if random.random() < 0.1)
            for s in range(SEMAPHORES):
                available[s] += signal >> s & 1
            more = {"tag": i}
            if make in (load, store):
                more["address"] = DATA + (i % 32) * ROW_BYTES
            program.append(make(wait=wait, signal=signal, **more))
        await bench.run([*program, END_])
        # The DMA's starts and ends are not in the log: what it gives counts from the beginning, what it takes
        # not at all. So only what is certain is checked: no engine starts with less than could be there.
        decoded = [FORMATS[Opcode(p[0])].decode(p) for p in program]
        transfers = [d for d in decoded if Opcode(d["opcode"]) in (Opcode.LOAD, Opcode.STORE)]
        counts = [sum(d["signal"] >> s & 1 for d in transfers) for s in range(SEMAPHORES)]
        for what, _who, _cycle, instruction in sorted(bench.log, key=lambda e: (e[2], e[0] == "start")):
            mask, step = (instruction["wait"], -1) if what == "start" else (instruction["signal"], 1)
            for s in range(SEMAPHORES):
                counts[s] += step * (mask >> s & 1)
                assert counts[s] >= 0
        for who, opcode in (("matmul", 4), ("vector", 5)):
            for what in ("start", "end"):
                tags = [i["tag"] for w, name, _, i in bench.log if (w, name) == (what, who)]
                assert tags == [d["tag"] for d in decoded if d["opcode"] == opcode]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def transfers_wait_for_each_other(dut):
    """A row goes from place to place through the scratchpad: each step needs the one before."""
    bench = await Bench(dut).start()
    for pause, conflicts in [(0, 0), (0.3, 0), (0.1, 0.5)]:
        bench.stress(pause, conflicts)
        steps = 12
        data = random.randbytes(ROW_BYTES)
        bench.memory.data[DATA:DATA + ROW_BYTES] = data
        program = []
        for i in range(steps):
            source = DATA + i * ROW_BYTES
            program += [load(wait=2 if i else 0, signal=1, address=source, scratchpad=i),
                        store(wait=1, signal=2, address=source + ROW_BYTES, scratchpad=i)]
        await bench.run([*program, END_])
        for i in range(1, steps + 1):
            assert bench.memory.data[DATA + i * ROW_BYTES:DATA + (i + 1) * ROW_BYTES] == data


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_shared_semaphore_is_taken_once(dut):
    """Semaphore rule 3: as many starts as signals, whoever makes them."""
    bench = await Bench(dut).start()
    bench.stress(0, 0, (0, 3))
    for _ in range(4):
        # 8 signals; matmul and vector compete for them with 4 each, later ones must wait for the second 8.
        await bench.run([load(signal=1)] * 8 + [matmul(wait=1), vector(wait=1)] * 4 + [END_])
        assert len(bench.log) == 16


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def semaphores_are_clear_at_each_start(dut):
    bench = await Bench(dut).start()
    await bench.run([matmul(signal=0xFFFF), END_])
    await bench.write("watchdog", 500)
    await bench.launch([matmul(wait=8), END_])
    await bench.fails(ErrorCause.WATCHDOG, PROGRAM)
    await bench.soft_reset()
    await bench.write("watchdog", 0)
    await bench.works()


ILLEGAL = {
    "opcode 0": bytes(INSTRUCTION_BYTES),
    "opcode 6": END.encode(opcode=6),
    "opcode 255": END.encode(opcode=255),
    "function 0": vector(function=0),
    "function 10": vector(function=10),
    "load of 0 words": load(words=0),
    "load of 0 rows": load(count=0),
    "store of 0 words": store(words=0),
    "store of 0 rows": store(count=0),
    "load from an odd address": load(address=DATA + BUS // 2),
    "store with an odd stride": store(count=2, dram_stride=BUS + 1),
    "matmul, m = 0": matmul(m=0),
    "matmul, n_tiles = 0": matmul(n_tiles=0),
    "matmul, k_tiles = 0": matmul(k_tiles=0),
    "vector, m = 0": vector(m=0),
    "vector, groups = 0": vector(groups=0),
    "vector beyond the row table": vector(row=CONFIG.row_entries - 3, m=4),
    "vector far beyond the row table": vector(row=65535, m=65535),
}

LEGAL = {
    "load with an odd stride of one row": load(dram_stride=1),
    "vector up to the end of the row table": vector(row=CONFIG.row_entries - 4, m=4),
    "LOAD_ROWS without groups": vector(function=Function.LOAD_ROWS.value, groups=0),
    "undefined bits": matmul(function=77),
    **{function.name: vector(function=function.value) for function in Function},
}


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def illegal_instructions_stop_the_program(dut):
    """Decoder rule 1."""
    bench = await Bench(dut).start()
    for name, instruction in ILLEGAL.items():
        dut._log.info("%s", name)
        before = random.randrange(0, 20)
        await bench.launch([matmul()] * before + [instruction, vector(), END_])
        await bench.fails(ErrorCause.ILLEGAL_INSTRUCTION, PROGRAM + before * INSTRUCTION_BYTES)
        await cycles(dut.clk, 100)
        assert not any(who == "vector" for _, who, _, _ in bench.log)
        assert dut.matmul_command_valid.value == 0
        await bench.soft_reset()
    await bench.works()
    await bench.run([*LEGAL.values(), END_])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def an_error_must_be_cleared_before_the_next_start(dut):
    """Sequencer rule 1."""
    bench = await Bench(dut).start()
    await bench.launch([bytes(INSTRUCTION_BYTES)])
    await bench.fails(ErrorCause.ILLEGAL_INSTRUCTION, PROGRAM)
    low = cocotb.start_soon(falls(dut.interrupt))
    await bench.write("control", 1)
    await cycles(dut.clk, 50)
    await bench.fails(ErrorCause.ILLEGAL_INSTRUCTION, PROGRAM, refused=1)
    assert not low.done(), "a start that is refused lowers the interrupt for no cycle"
    low.cancel()
    await bench.soft_reset()
    await bench.works()


async def falls(signal):
    await FallingEdge(signal)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_start_is_refused_while_a_program_runs(dut):
    """Sequencer rule 1."""
    bench = await Bench(dut).start()
    bench.matmul.delay = (300, 300)
    await bench.launch([matmul(), END_])
    assert await bench.status() == status_of(busy=1)
    await bench.write("control", 1)
    assert await bench.status() == status_of(busy=1, refused=1)
    await bench.interrupted()
    assert await bench.status() == status_of(done=1, refused=1)
    assert await bench.read48("instructions") == 2
    await bench.works()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def registers_that_are_written_later_are_for_the_next_program(dut):
    """Sequencer rule 1: a program keeps the address, the window and the watchdog that it was started with."""
    bench = await Bench(dut).start()
    bench.stress(0.2, 0.2)
    program = [load(signal=1), matmul(wait=1, signal=2)]
    program += [store(wait=2, address=DATA + 0x1000, signal=4), load(wait=4, address=DATA + 0x2000)] + [matmul()] * 40
    values = {"program": (PROGRAM, 0xF000), "window_base": (BASE, DATA), "window_limit": (LIMIT, DATA)}
    for name, (good, other) in values.items():
        for wait in (0, random.randrange(300)):
            await bench.launch([*program, END_])
            await cycles(dut.clk, wait)
            await bench.write48(name, other)
            await bench.interrupted()
            assert await bench.status() == status_of(done=1), name
            assert await bench.read48("instructions") == len(program) + 1
            if name != "program":
                await bench.write("control", 1)  # now it counts
                await bench.interrupted()
                assert (await bench.status())["error"] == 1
                await bench.soft_reset()
            await bench.write48(name, good)
    bench.matmul.delay = (300, 300)
    await bench.launch([matmul(), END_])
    await bench.write("watchdog", 100)
    await bench.interrupted()
    assert await bench.status() == status_of(done=1)
    await bench.launch([matmul(), END_])
    await bench.fails(ErrorCause.WATCHDOG, PROGRAM)
    assert all(BASE <= address < LIMIT for address in bench.memory.reads)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def faults_of_transfers_are_precise(dut):
    """The address is the failing instruction's, also when others are under way before and behind it."""
    bench = await Bench(dut).start()
    bad = DATA + 0x400 * 8
    for make, causes in [
        (load, (ErrorCause.LOAD_OUTSIDE_WINDOW, ErrorCause.LOAD_BUS_ERROR)),
        (store, (ErrorCause.STORE_OUTSIDE_WINDOW, ErrorCause.STORE_BUS_ERROR)),
    ]:
        for before in (0, 1, 5):
            for cause, address in zip(causes, (LIMIT - BUS, bad), strict=True):
                bench.stress(random.choice([0, 0.3]), random.choice([0, 0.3]))
                dut._log.info("%s after %d", cause, before)
                bench.memory.bad = range(bad, bad + ROW_BYTES)
                good = [make(address=DATA + i * ROW_BYTES) for i in range(before)]
                await bench.launch([*good, make(address=address), make(), make(), END_])
                await bench.fails(cause, PROGRAM + before * INSTRUCTION_BYTES)
                bench.memory.bad = range(0)
                await bench.soft_reset()
                await bench.works()
    assert all(BASE <= address < LIMIT for address in bench.memory.reads)
    assert not any(bench.memory.written[LIMIT:])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def faults_of_the_fetch(dut):
    bench = await Bench(dut).start()
    # Runs out of the window, at once or later, in the middle of a block or not.
    for at, count in [(LIMIT - 5 * INSTRUCTION_BYTES, 5), (LIMIT - 16 * INSTRUCTION_BYTES, 16), (LIMIT, 0),
                      (0, 0), (BASE - INSTRUCTION_BYTES, 0)]:
        await bench.launch([matmul()] * count, at)
        await bench.fails(ErrorCause.FETCH_OUTSIDE_WINDOW, at + count * INSTRUCTION_BYTES)
        await bench.soft_reset()
    # The same where the window ends amid a block, an instruction or a beat.
    for instructions in (1, random.randrange(2, 15), 15):
        end = LIMIT - instructions * INSTRUCTION_BYTES
        for more in (0, 1, BUS - 1, INSTRUCTION_BYTES - BUS, INSTRUCTION_BYTES - 1):
            count = random.randrange(20)
            at = end - count * INSTRUCTION_BYTES
            await bench.write48("window_limit", end + more)
            await bench.launch([matmul()] * (count + 1), at)
            await bench.fails(ErrorCause.FETCH_OUTSIDE_WINDOW, end)
            await bench.soft_reset()
    # A window that begins amid the first beat, one that is empty, and one that ends before it begins.
    for base, limit in [(PROGRAM + 1, LIMIT), (PROGRAM + BUS - 1, LIMIT), (BASE, 0), (LIMIT, BASE), (BASE, BASE)]:
        await bench.write48("window_base", base)
        await bench.write48("window_limit", limit)
        await bench.launch([END_])
        await bench.fails(ErrorCause.FETCH_OUTSIDE_WINDOW, PROGRAM)
        await bench.soft_reset()
    await bench.write48("window_base", BASE)
    await bench.write48("window_limit", LIMIT)
    if CONFIG.address_bits < 48:
        await bench.launch([])
        await bench.write48("program", (1 << CONFIG.address_bits) + BASE)
        await bench.soft_reset()
        await bench.write("control", 1)
        await bench.interrupted()
        assert (await bench.status())["cause"] == ErrorCause.FETCH_OUTSIDE_WINDOW.value
        await bench.soft_reset()
    # An error response: harmless when read ahead, else reported for its instruction.
    bench.memory.bad = range(PROGRAM + 10 * INSTRUCTION_BYTES, PROGRAM + 11 * INSTRUCTION_BYTES)
    await bench.works()
    await bench.launch([matmul()] * 20 + [END_])
    await bench.fails(ErrorCause.FETCH_BUS_ERROR, PROGRAM + 10 * INSTRUCTION_BYTES)
    await bench.soft_reset()
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_semaphore_beyond_its_range_is_an_error(dut):
    bench = await Bench(dut).start()
    bench.stress(0, 0, (0, 0))
    most = (1 << SEMAPHORE_BITS) - 1
    await bench.run([matmul(signal=1 << 5)] * most + [END_])
    await bench.launch([matmul(signal=1 << 5)] * (most + 1) + [matmul(wait=2), END_])
    await bench.fails(ErrorCause.SEMAPHORE_OVERFLOW, PROGRAM + most * INSTRUCTION_BYTES)
    await bench.soft_reset()
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def the_watchdog_frees_a_program_that_hangs(dut):
    bench = await Bench(dut).start()
    await bench.write("watchdog", 400)
    # A deadlock: the address is that of the waiting instruction.
    await bench.launch([load(), vector(wait=1), END_])
    await bench.fails(ErrorCause.WATCHDOG, PROGRAM + INSTRUCTION_BYTES)
    await bench.soft_reset()
    await bench.works()
    # An engine that never finishes.
    bench.matmul.stuck = True
    await bench.launch([vector(), matmul(), END_])
    await bench.fails(ErrorCause.WATCHDOG, PROGRAM + INSTRUCTION_BYTES)
    bench.matmul.stuck = False
    await bench.soft_reset()
    await bench.works()
    # A memory that stops answering in the middle of a load, of a store and of the fetch.
    for program, address in [([load(), END_], PROGRAM), ([store(), END_], PROGRAM), ([matmul()] * 50, None)]:
        await bench.launch(program)
        if address is not None:
            await cycles(dut.clk, 25)
        bench.memory.hanging = True
        await bench.hangs(ErrorCause.WATCHDOG, address)
        if random.random() < 0.5:  # it ends as soon as the memory answers
            bench.memory.hanging = False
            await bench.interrupted()
            assert await bench.status() == status_of(error=1, cause=ErrorCause.WATCHDOG.value)
            await bench.soft_reset()
        else:  # neither a soft reset nor a start that waits for it end before that
            await bench.write("control", 2)
            await cycles(dut.clk, 300)
            assert await bench.status() == status_of(busy=1, stopping=1)
            if random.random() < 0.5:
                await bench.launch([matmul(), END_])
                await cycles(dut.clk, 300)
                assert await bench.status() == status_of(busy=1, stopping=1)
                assert not bench.log
                bench.memory.hanging = False
                await bench.interrupted()
                assert await bench.status() == status_of(done=1)
                assert len(bench.log) == 2
            bench.memory.hanging = False
            await bench.soft_reset()
        await bench.works()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def a_soft_reset_at_any_time_is_clean(dut):
    bench = await Bench(dut).start()
    program = []
    for i in range(30):
        program += [load(signal=1, address=DATA + i * ROW_BYTES),
                    matmul(wait=1, signal=2),
                    vector(wait=2, signal=4),
                    store(wait=4, address=DATA + 0x4000 + i * ROW_BYTES)]
    program.append(END_)
    for round in range(25):
        bench.stress(random.choice([0, 0.3]), random.choice([0, 0.4]))
        bench.memory.latency = random.choice([0, 0, 20])
        await bench.launch(program)
        await cycles(dut.clk, random.randrange(1, 400))
        bench.memory.hanging = round % 5 == 0
        if bench.memory.hanging:
            cocotb.start_soon(answers(bench))
        await bench.soft_reset()
        # Whatever the host writes now stays there.
        bench.memory.data[DATA:] = data = random.randbytes(len(bench.memory.data) - DATA)
        await cycles(dut.clk, 300)
        assert bench.memory.data[DATA:] == data
        assert bench.memory.taken == 0
        await bench.works()


async def answers(bench):
    await cycles(bench.dut.clk, 300)
    bench.memory.hanging = False


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def counters_count(dut):
    bench = await Bench(dut).start()
    bench.matmul.delay, bench.matmul.hesitation = (40, 40), 0
    start = None

    async def busy_cycles():
        nonlocal start
        while dut.reset.value != 1:
            await RisingEdge(dut.clk)
        start = bench.cycle

    cocotb.start_soon(busy_cycles())
    await bench.run([load(signal=1, words=3 * ROW_WORDS), matmul(wait=1, signal=2), store(wait=2), END_])
    elapsed = bench.cycle - start
    await bench.write("interrupt", 3)
    values = {name: await bench.read48(name) for name, _ in COUNTERS}
    dut._log.info("%s", values)
    assert values["instructions"] == 4
    assert elapsed - 20 <= values["cycles"] <= elapsed
    # Nothing else was said of the array: it waits for the load, then for the latencies.
    assert values["lost_data"] == values["matmul_wait"] > 0
    assert values["array_active"] + sum(values[name] for name in LOSSES) == values["cycles"]
    assert values["lost_fetch"] > 0
    assert values["write_bytes"] == ROW_BYTES
    assert values["read_bytes"] - 3 * ROW_BYTES in (16 * INSTRUCTION_BYTES, 32 * INSTRUCTION_BYTES)
    assert values["matmul_busy"] == 40 + 3
    assert values["store_wait"] >= values["matmul_busy"]
    assert values["vector_busy"] == values["vector_wait"] == 0
    assert 0 < values["load_busy"] < values["cycles"]
    assert values["matmul_wait"] + values["matmul_busy"] <= values["cycles"]
    # Stopped by the end, cleared by a start and by a soft reset.
    assert values["cycles"] == await bench.read48("cycles")
    await bench.run([END_])
    assert await bench.read48("matmul_busy") == 0
    await bench.launch([load(signal=1, words=3 * ROW_WORDS), matmul(wait=1, signal=2), store(wait=2), END_])
    await cycles(dut.clk, random.randrange(20, 120))
    await bench.soft_reset()
    assert [name for name, _ in COUNTERS if await bench.read48(name)] == []
