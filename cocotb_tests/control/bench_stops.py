"""What ends a program before its END: refused instructions and starts, faults, the watchdog, a soft reset; and that
the next program runs as if nothing had been."""

import random

import cocotb
from celosia.hdl.control.queued import INDEX_BITS
from celosia.hdl.isa import (
    END,
    INSTRUCTION_BYTES,
    SEMAPHORE_BITS,
    Function,
)
from celosia.hdl.registers import ErrorCause
from cocotb.triggers import FallingEdge

from cocotb_tests.control.sequencer_driver import (
    BASE,
    BUS,
    CONFIG,
    DATA,
    END_,
    LIMIT,
    MEMORY_BYTES,
    PROGRAM,
    ROW_BYTES,
    Bench,
    between,
    load,
    matmul,
    number_of,
    numbered,
    store,
    vector,
)
from cocotb_tests.models import cycles, status_of

ILLEGAL = {
    "opcode 0": bytes(INSTRUCTION_BYTES),
    "opcode 6": END.encode(opcode=6),
    "opcode 255": END.encode(opcode=255),
    "function 0": vector(function=0),
    "function 14": vector(function=14),
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
    "LOAD_CURVE without rows": vector(function=Function.LOAD_CURVE.value, groups=0, m=0, row=CONFIG.row_entries),
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


#: Indices of a half, and the addresses at which one begins: a lower one, and an upper one.
HALF = 1 << INDEX_BITS - 1
HALVES = (2 * HALF * INSTRUCTION_BYTES, 3 * HALF * INSTRUCTION_BYTES)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def the_address_of_a_fault_is_whole(dut):
    """Decoder rule 4: a queue keeps the lowest bits of an address, and what is fetched may be of the next half."""
    bench = await Bench(dut).start()
    bench.stress(0, 0, (20, 20))
    bench.matmul.hesitation = bench.vector.hesitation = 0
    await bench.write48("window_limit", MEMORY_BYTES)
    await bench.write("watchdog", 400)
    for half in HALVES:
        start = half - 40 * INSTRUCTION_BYTES
        for before in (0, 30, 37, 38, 39, 40, 41, 60):
            good = [matmul() if i % 2 else load() for i in range(before)]
            at = start + before * INSTRUCTION_BYTES
            await bench.launch([*good, load(address=MEMORY_BYTES - BUS), matmul(), load(), END_], start)
            await bench.fails(ErrorCause.LOAD_OUTSIDE_WINDOW, at)
            await bench.soft_reset()
            await bench.launch([*good, vector(wait=between("store", "vector")), *[matmul()] * 30, END_], start)
            await bench.fails(ErrorCause.WATCHDOG, at)
            await bench.soft_reset()
            await bench.launch([*good, END.encode(opcode=77)], start)
            await bench.fails(ErrorCause.ILLEGAL_INSTRUCTION, at)
            await bench.soft_reset()
            await bench.run([*good, load(), matmul(), END_], start)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def no_instruction_is_handed_out_long_after_one_that_has_not_finished(dut):
    """Decoder rule 4: while an instruction of a half is under way, the next half is handed out, and no more."""
    bench = await Bench(dut).start()
    bench.stress(0, 0, (0, 0))
    await bench.write48("window_limit", MEMORY_BYTES)
    for half in HALVES:
        start = half - 3 * INSTRUCTION_BYTES
        program = [matmul(), *(numbered(vector, i) for i in range(2 * HALF + 9)), END_]
        for watchdog in (0, 500):
            await bench.write("watchdog", watchdog)
            bench.matmul.stuck = True
            await bench.launch(program, start)
            if watchdog:
                await bench.fails(ErrorCause.WATCHDOG, start)
            else:
                await cycles(dut.clk, 16 * HALF)
            begun = [number_of(given) for what, who, _, given in bench.log if (what, who) == ("start", "vector")]
            assert begun == list(range(2 + HALF))
            bench.matmul.stuck = False
            if watchdog:
                await bench.soft_reset()
            else:
                await bench.interrupted()
                assert await bench.status() == status_of(done=1)
                begun = [number_of(given) for what, who, _, given in bench.log if (what, who) == ("start", "vector")]
                assert begun == list(range(2 * HALF + 9))
    await bench.write("watchdog", 0)
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
    first, second, third = between("load", "matmul"), between("matmul", "store"), between("store", "load")
    program = [load(signal=first), matmul(wait=first, signal=second)]
    program += [store(wait=second, address=DATA + 0x1000, signal=third), load(wait=third, address=DATA + 0x2000)]
    program += [matmul()] * 40
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
    for make, giver, taker in ((matmul, "matmul", "store"), (vector, "vector", "load")):
        many = [make(signal=between(giver, taker))]
        await bench.run(many * most + [END_])
        await bench.launch(many * (most + 1) + [matmul(wait=between("load", "matmul")), END_])
        await bench.fails(ErrorCause.SEMAPHORE_OVERFLOW, PROGRAM + most * INSTRUCTION_BYTES)
        await bench.soft_reset()
    await bench.works()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def the_watchdog_frees_a_program_that_hangs(dut):
    bench = await Bench(dut).start()
    await bench.write("watchdog", 400)
    # A deadlock: the address is that of the waiting instruction.
    await bench.launch([load(), vector(wait=between("matmul", "vector")), END_])
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
        program += [load(signal=between("load", "matmul"), address=DATA + i * ROW_BYTES),
                    matmul(wait=between("load", "matmul"), signal=between("matmul", "vector")),
                    vector(wait=between("matmul", "vector"), signal=between("vector", "store")),
                    store(wait=between("vector", "store"), address=DATA + 0x4000 + i * ROW_BYTES)]
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
