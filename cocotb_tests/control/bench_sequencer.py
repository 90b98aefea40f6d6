"""Programs in a DRAM model, run by the control side; the matmul and the vector engine are models with random
delays."""

import random

import cocotb
from celosia.hdl.control.fetch import PREFETCH
from celosia.hdl.control.issue import SIGNAL_LATENCY
from celosia.hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    SEMAPHORES,
    Engine,
    Opcode,
    semaphore_index,
)
from celosia.hdl.registers import COUNTERS, LOSSES, ErrorCause
from cocotb.triggers import RisingEdge

from cocotb_tests.control.sequencer_driver import (
    BASE,
    BUS,
    DATA,
    END_,
    LIMIT,
    PROGRAM,
    ROW_BYTES,
    ROW_WORDS,
    Bench,
    between,
    load,
    matmul,
    number_of,
    numbered,
    store,
    vector,
)
from cocotb_tests.models import cycles


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
    assert await bench.read48("cycles") < 60 + 2 * PREFETCH * INSTRUCTION_BYTES // BUS


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def programs_of_any_length_at_any_place(dut):
    bench = await Bench(dut).start()
    for length in (0, 1, 14, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 100):
        at = PROGRAM + random.randrange(0, 64) * BUS
        if random.random() < 0.3:
            at = 0x2000 - random.randrange(0, 8) * BUS  # over a 4 KiB edge
        await bench.run([numbered(matmul if i % 2 else vector, i) for i in range(length)] + [END_], at)
        for who, parity in (("matmul", 1), ("vector", 0)):
            started = [number_of(i) for what, name, _, i in bench.log if what == "start" and name == who]
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
async def a_dependent_starts_soon_after_its_operand(dut):
    """Issue rule 2."""
    bench = await Bench(dut).start()
    bench.vector.hesitation = 0
    for _ in range(4):
        semaphore = between("matmul", "vector")
        await bench.run([matmul(signal=semaphore), vector(wait=semaphore), END_])
        end = next(cycle for what, who, cycle, _ in bench.log if (what, who) == ("end", "matmul"))
        start = next(cycle for what, who, cycle, _ in bench.log if (what, who) == ("start", "vector"))
        assert start == end + SIGNAL_LATENCY


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def semaphores_order_random_programs(dut):
    """Rules 1, 3 and 4 of the instruction set, replayed from the engines' logs."""
    bench = await Bench(dut).start()
    for _ in range(12):
        bench.stress(random.choice([0, 0.3]), random.choice([0, 0.3]), (0, random.choice([0, 3, 60])))
        program, count = [], random.choice([3, 17, 40, 60])
        # No program may deadlock: what an instruction takes was given before it in the program.
        available = [0] * SEMAPHORES
        engines = {load: Engine.LOAD, store: Engine.STORE, matmul: Engine.MATMUL, vector: Engine.VECTOR}
        for i in range(count):
            make = random.choice([matmul, vector, matmul, vector, load, store])
            wait = signal = 0
            for other in Engine:
                if other is engines[make]:
                    continue
                taken, given = semaphore_index(other, engines[make]), semaphore_index(engines[make], other)
                if available[taken] and random.random() < 0.3:
                    available[taken] -= 1
                    wait |= 1 << taken
                if random.random() < 0.3:
                    available[given] += 1
                    signal |= 1 << given
            if make in (load, store):
                program.append(make(wait=wait, signal=signal, address=DATA + (i % 32) * ROW_BYTES))
            else:
                program.append(numbered(make, i, wait=wait, signal=signal))
        await bench.run([*program, END_])
        # The DMA's starts and ends are not in the log: what it gives counts from the beginning, what it takes
        # not at all. So only what is certain is checked: no engine starts with less than could be there.
        decoded = [FORMATS[Opcode(p[0])].decode(p) for p in program]
        transfers = [d for d in decoded if Opcode(d["opcode"]) in (Opcode.LOAD, Opcode.STORE)]
        counts = [sum(d["signal"] >> s & 1 for d in transfers) for s in range(SEMAPHORES)]
        for what, _who, _cycle, given in sorted(bench.log, key=lambda e: (e[2], e[0] == "start")):
            instruction = decoded[number_of(given)]
            mask, step = (instruction["wait"], -1) if what == "start" else (instruction["signal"], 1)
            for s in range(SEMAPHORES):
                counts[s] += step * (mask >> s & 1)
                assert counts[s] >= 0
        for who, opcode in (("matmul", 4), ("vector", 5)):
            for what in ("start", "end"):
                numbers = [number_of(i) for w, name, _, i in bench.log if (w, name) == (what, who)]
                assert numbers == [i for i, d in enumerate(decoded) if d["opcode"] == opcode]


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
            there, back = between("load", "store"), between("store", "load")
            program += [load(wait=back if i else 0, signal=there, address=source, scratchpad=i),
                        store(wait=there, signal=back, address=source + ROW_BYTES, scratchpad=i)]
        await bench.run([*program, END_])
        for i in range(1, steps + 1):
            assert bench.memory.data[DATA + i * ROW_BYTES:DATA + (i + 1) * ROW_BYTES] == data


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_semaphore_belongs_to_two_engines(dut):
    """Rule 6 of the instruction set: an instruction that gives or takes another one is refused, so that no two engines
    give or take the same in a cycle."""
    bench = await Bench(dut).start()
    makes = {Engine.LOAD: load, Engine.STORE: store, Engine.MATMUL: matmul, Engine.VECTOR: vector}
    for engine, make in makes.items():
        gives = {semaphore_index(engine, other) for other in Engine if other is not engine}
        takes = {semaphore_index(other, engine) for other in Engine if other is not engine}
        for semaphore in range(SEMAPHORES):
            for mask, own in (("signal", gives), ("wait", takes)):
                if semaphore not in own:
                    await bench.launch([make(**{mask: 1 << semaphore}), END_])
                    await bench.fails(ErrorCause.ILLEGAL_INSTRUCTION, PROGRAM)
                    await bench.soft_reset()
        await bench.run([make(signal=sum(1 << semaphore for semaphore in gives)), END_])
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def signals_of_all_engines_at_once_are_counted(dut):
    """Everybody gives to everybody, with engines that finish in the same cycle, and takes as much."""
    bench = await Bench(dut).start()
    bench.stress(0, 0, (0, 3))
    for _ in range(4):
        program = []
        for _ in range(10):
            program += [matmul(signal=between("matmul", "vector") | between("matmul", "load")),
                        vector(signal=between("vector", "matmul") | between("vector", "load")),
                        load(signal=between("load", "matmul") | between("load", "vector"))]
        for _ in range(10):
            program += [matmul(wait=between("vector", "matmul") | between("load", "matmul")),
                        vector(wait=between("matmul", "vector") | between("load", "vector")),
                        load(wait=between("matmul", "load") | between("vector", "load"))]
        await bench.run([*program, END_])
        assert len(bench.log) == 2 * 40


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def semaphores_are_clear_at_each_start(dut):
    bench = await Bench(dut).start()
    await bench.run([vector(signal=between("vector", "matmul")), END_])
    await bench.write("watchdog", 500)
    await bench.launch([matmul(wait=between("vector", "matmul")), END_])
    await bench.fails(ErrorCause.WATCHDOG, PROGRAM)
    await bench.soft_reset()
    await bench.write("watchdog", 0)
    await bench.works()


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
    loaded, made = between("load", "matmul"), between("matmul", "store")
    program = [load(signal=loaded, words=3 * ROW_WORDS), matmul(wait=loaded, signal=made), store(wait=made), END_]
    await bench.run(program)
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
    assert values["read_bytes"] - 3 * ROW_BYTES in (PREFETCH * INSTRUCTION_BYTES, 2 * PREFETCH * INSTRUCTION_BYTES)
    assert values["matmul_busy"] == 40 + 3
    assert values["store_wait"] >= values["matmul_busy"]
    assert values["vector_busy"] == values["vector_wait"] == 0
    assert 0 < values["load_busy"] < values["cycles"]
    assert values["matmul_wait"] + values["matmul_busy"] <= values["cycles"]
    # Stopped by the end, cleared by a start and by a soft reset.
    assert values["cycles"] == await bench.read48("cycles")
    await bench.run([END_])
    assert await bench.read48("matmul_busy") == 0
    await bench.launch(program)
    await cycles(dut.clk, random.randrange(20, 120))
    await bench.soft_reset()
    assert [name for name, _ in COUNTERS if await bench.read48(name)] == []
