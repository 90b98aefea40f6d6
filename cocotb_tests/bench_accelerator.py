"""The whole accelerator between bus models by others: encoder layers against golden, faults, and recovery."""

import random

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import constant_registers
from celosia.hdl.isa import END, INSTRUCTION_BYTES, SEMAPHORE_BITS, TRANSFER, Engine, Opcode, semaphore_index
from celosia.hdl.registers import DEFAULT_WATCHDOG, ErrorCause, register
from cocotb.triggers import ReadOnly, RisingEdge

from cocotb_tests.accelerator_driver import BASE, LIMIT, AcceleratorDriver, Job
from cocotb_tests.harness import bench_parameters
from cocotb_tests.models import cycles, status_of

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])
SMALL = (8, 16, 2)  # hidden, FFN, heads
BUS = CONFIG.bus_bytes
PROGRAM = BASE  # of programs that are not an encoder


async def driver(dut, pause=0.0, latency=0):
    driver = await AcceleratorDriver(dut, CONFIG, latency).start()
    driver.stress(pause)
    return driver


def code(*instructions):
    return b"".join([*instructions, END.encode(opcode=Opcode.END.value)])


def transfer(opcode, **fields):
    return TRANSFER.encode(opcode=opcode.value, **{"count": 1, "words": 1, **fields})


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers_tell_the_configuration(dut):
    accelerator = await driver(dut, 0.3)
    assert await accelerator.read("id") == int.from_bytes(b"CELO", "big")
    for name, value in constant_registers(CONFIG).items():
        assert await accelerator.read(name) == value
    array = await accelerator.read("config_array")
    assert list(array.to_bytes(4, "little")) == [CONFIG.rows, CONFIG.cols, CONFIG.lanes, CONFIG.bus_bits // 8]
    memory = await accelerator.read("config_memory")
    assert (memory & 0xFFF, memory >> 12 & 0xFFF, memory >> 24) == (
        CONFIG.scratchpad_kib, CONFIG.accumulator_kib, CONFIG.scratchpad_banks)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def layers_equal_golden(dut):
    """One program after the other, none with a reset between: lengths around the array's sides, masks, several
    sentences, shapes that are no multiple of the array; with and without pauses."""
    accelerator = await driver(dut, latency=20)
    jobs = [
        (0.0, SMALL, [1], False),
        (0.0, SMALL, [CONFIG.cols + 1], True),
        (0.3, SMALL, [3, CONFIG.cols], True),
        (0.5, (12, 20, 2), [random.randint(2, 9)], False),
        (0.2, (16, 16, 4), [random.randint(1, 9), random.randint(1, 9)], True),
    ]
    for _ in range(8):
        heads = random.choice([1, 2, 3])
        shape = (heads * random.randint(2, 7), random.randint(5, 24), heads)
        lengths = [random.randint(1, 12) for _ in range(random.randint(1, 3))]
        jobs.append((random.choice([0.0, 0.1, 0.4]), shape, lengths, random.random() < 0.5))
    for pause, shape, lengths, masked in jobs:
        job = Job(CONFIG, shape, lengths, masked)
        accelerator.stress(pause)
        counters = await accelerator.run(job)
        assert counters["instructions"] == len(job.program.instructions)
        stored = [i.fields for i in job.program.instructions if i.opcode is Opcode.STORE]
        assert counters["write_bytes"] == CONFIG.word_bytes * sum(f["count"] * f["words"] for f in stored)
        dut._log.info("%s %s: %d instructions, %d cycles", shape, lengths, counters["instructions"],
                      counters["cycles"])


def touches(instruction, address):
    """Whether a transfer touches the DRAM byte."""
    f = instruction.fields
    rows = (address - f["dram_address"] - i * f.get("dram_stride", 0) for i in range(f["count"]))
    return any(0 <= offset < f["words"] * CONFIG.word_bytes for offset in rows)


class Fault:
    """Ways to spoil a job that lies in memory; each returns the address that must be reported."""

    def __init__(self, accelerator, job):
        self.accelerator, self.memory, self.program = accelerator, accelerator.memory, job.program
        self.transfers = {opcode: [x for x in self.program.instructions if x.opcode is opcode]
                          for opcode in (Opcode.LOAD, Opcode.STORE)}

    def address(self, instruction):
        return self.program.address + self.program.instructions.index(instruction) * INSTRUCTION_BYTES

    def patched(self, instruction, **fields):
        address = self.address(instruction)
        part = slice(address, address + INSTRUCTION_BYTES)
        self.memory.data[part] = TRANSFER.encode(**(TRANSFER.decode(self.memory.data[part]) | fields))
        return address

    def illegal_opcode(self):
        return self.patched(random.choice(self.program.instructions), opcode=random.choice([0, 6, 255]))

    def illegal_operand(self):
        transfer = random.choice(self.transfers[random.choice([Opcode.LOAD, Opcode.STORE])])
        return self.patched(transfer, **random.choice([{"count": 0}, {"words": 0}, {"dram_address": BASE + 1}]))

    def outside(self, opcode):
        return self.patched(random.choice(self.transfers[opcode]),
                            dram_address=random.choice([0, BASE - BUS, LIMIT, 1 << 40]))

    def load_outside(self):
        return self.outside(Opcode.LOAD)

    def store_outside(self):
        return self.outside(Opcode.STORE)

    def bad_address(self, opcode, candidates):
        address = random.choice(candidates).fields["dram_address"]
        self.memory.bad = range(address, address + 1)
        return self.address(next(x for x in self.transfers[opcode] if touches(x, address)))

    def load_bus_error(self):
        stores = self.transfers[Opcode.STORE]
        return self.bad_address(Opcode.LOAD, [
            x for x in self.transfers[Opcode.LOAD]
            if not any(touches(store, x.fields["dram_address"]) for store in stores)])

    def store_bus_error(self):
        return self.bad_address(Opcode.STORE, self.transfers[Opcode.STORE])

    def fetch_bus_error(self):
        address = self.address(random.choice(self.program.instructions))
        self.memory.bad = range(address, address + 1)
        return address

    def silent_memory(self):
        self.memory.hanging = True
        return self.program.address


FAULTS = {
    "illegal_opcode": ErrorCause.ILLEGAL_INSTRUCTION,
    "illegal_operand": ErrorCause.ILLEGAL_INSTRUCTION,
    "load_outside": ErrorCause.LOAD_OUTSIDE_WINDOW,
    "store_outside": ErrorCause.STORE_OUTSIDE_WINDOW,
    "load_bus_error": ErrorCause.LOAD_BUS_ERROR,
    "store_bus_error": ErrorCause.STORE_BUS_ERROR,
    "fetch_bus_error": ErrorCause.FETCH_BUS_ERROR,
    "silent_memory": ErrorCause.WATCHDOG,
}


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def faults_are_reported_and_left_behind(dut):
    """For each cause: status, address, interrupt; a soft reset; then a good program is right."""
    accelerator = await driver(dut)
    await accelerator.write("watchdog", 3000)
    for name, cause in random.sample(list(FAULTS.items()), len(FAULTS)):
        job = Job(CONFIG, SMALL, [3])
        job.place(accelerator.memory.data)
        address = getattr(Fault(accelerator, job), name)()
        accelerator.stress(random.choice([0.0, 0.3]))
        await accelerator.launch(job.program.address)
        if accelerator.memory.hanging:
            await cycles(dut.clk, 3500)
            assert await accelerator.status() == status_of(busy=1, stopping=1, cause=cause.value)
            assert dut.interrupt.value == 0
            accelerator.memory.hanging = False
        await accelerator.fails(cause, address)
        accelerator.memory.bad = range(0)
        await accelerator.run(job)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def small_programs_fail_as_they_should(dut):
    """Faults that no compiled program has: each end of the window, a semaphore that nobody gives, and one that is
    given too often."""
    accelerator = await driver(dut, 0.2)
    memory = accelerator.memory
    await accelerator.write("watchdog", 2000)

    async def fails(content, cause, index, at=PROGRAM):
        memory.data[at:at + len(content)] = content
        await accelerator.launch(at)
        await accelerator.fails(cause, at + index * INSTRUCTION_BYTES)

    def load(**fields):
        return transfer(Opcode.LOAD, dram_address=LIMIT - BUS, **fields)

    await fails(b"", ErrorCause.FETCH_OUTSIDE_WINDOW, 0, at=LIMIT)
    await fails(b"", ErrorCause.FETCH_OUTSIDE_WINDOW, 0, at=BASE - INSTRUCTION_BYTES)
    await fails(load() + load(), ErrorCause.FETCH_OUTSIDE_WINDOW, 2, at=LIMIT - 2 * INSTRUCTION_BYTES)
    await fails(bytes(INSTRUCTION_BYTES), ErrorCause.ILLEGAL_INSTRUCTION, 0)
    given, taken = semaphore_index(Engine.LOAD, Engine.MATMUL), semaphore_index(Engine.MATMUL, Engine.LOAD)
    await fails(code(load(signal=1 << given), load(wait=1 << taken)), ErrorCause.WATCHDOG, 1)
    most = (1 << SEMAPHORE_BITS) - 1
    await fails(code(*[load(signal=1 << given)] * (most + 3)), ErrorCause.SEMAPHORE_OVERFLOW, most)
    # As often as the counter can count is allowed, and a semaphore that is left over does not reach the next.
    for _ in range(2):
        memory.data[PROGRAM:LIMIT] = code(*[load(signal=1 << given)] * most).ljust(LIMIT - PROGRAM, b"\0")
        await accelerator.launch(PROGRAM)
        assert await accelerator.ended() == status_of(done=1)
    await accelerator.run(Job(CONFIG, SMALL, [2]))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_reset_at_any_time_leaves_nothing_behind(dut):
    """A program is stopped somewhere; the next one is right, and nothing of the first is written any more."""
    accelerator = await driver(dut, 0.2, latency=20)
    job = Job(CONFIG, SMALL, [CONFIG.rows, 2])
    cycle_count = (await accelerator.run(job))["cycles"]
    for _ in range(6):
        stopped = Job(CONFIG, SMALL, [CONFIG.rows + 1])
        stopped.place(accelerator.memory.data)
        await accelerator.launch(stopped.program.address)
        await cycles(dut.clk, random.randrange(cycle_count))
        accelerator.stress(random.choice([0.0, 0.2, 0.8]))
        await accelerator.soft_reset()
        job.place(accelerator.memory.data)
        before = bytes(accelerator.memory.data)
        accelerator.memory.taken = 0
        await cycles(dut.clk, 500)
        assert accelerator.memory.data == before
        assert accelerator.memory.taken == 0
        await accelerator.run(job)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def an_error_shows_when_the_bus_owes_nothing(dut):
    """From the interrupt on, memory belongs to the host, also where the memory is slow."""
    accelerator = await driver(dut, latency=20)
    for name in random.sample(["illegal_opcode", "load_outside", "store_outside", "load_bus_error"], 4):
        job = Job(CONFIG, SMALL, [CONFIG.rows + 1])
        job.place(accelerator.memory.data)
        address = getattr(Fault(accelerator, job), name)()
        accelerator.stress(0.8)
        await accelerator.launch(job.program.address)
        assert (await accelerator.ended())["cause"] == FAULTS[name].value
        before = bytes(accelerator.memory.data)
        accelerator.memory.taken = 0
        await cycles(dut.clk, 500)
        assert accelerator.memory.data == before
        assert accelerator.memory.taken == 0
        await accelerator.fails(FAULTS[name], address)
        accelerator.memory.bad = range(0)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_reset_of_one_cycle_is_enough(dut):
    """Rule 1 of the accelerator: at any time, also while the host writes a register."""
    accelerator = await driver(dut, 0.2, latency=5)
    job = Job(CONFIG, SMALL, [2])
    outputs = [dut.interrupt, *(
        getattr(dut, f"{port}_{name}") for port, names in (
            ("s_axi_ctrl", ("awready", "wready", "bvalid", "arready", "rvalid")),
            ("m_axi_mem", ("awvalid", "wvalid", "bready", "arvalid", "rready"))) for name in names)]
    for _ in range(25):
        job.place(accelerator.memory.data)
        await accelerator.write_wide("window_base", BASE)
        await accelerator.write_wide("window_limit", LIMIT)
        await accelerator.launch(job.program.address)
        await cycles(dut.clk, random.randrange(400))
        host = cocotb.start_soon(accelerator.host.write(register("watchdog").offset, bytes(4)))
        await cycles(dut.clk, random.randrange(8))
        dut.rst.value = 1
        await ReadOnly()
        assert not any(int(output.value) for output in outputs)
        await RisingEdge(dut.clk)
        host.cancel()
        dut.rst.value = 0
        await ReadOnly()
        assert not any(int(output.value) for output in outputs)
        await RisingEdge(dut.clk)
        assert await accelerator.read("watchdog") == DEFAULT_WATCHDOG
        await accelerator.write_wide("window_base", BASE)
        await accelerator.write_wide("window_limit", LIMIT)
        await cycles(dut.clk, 200)  # until the model of the memory has forgotten what it was asked
        await accelerator.run(job)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def the_interrupt_follows_its_register(dut):
    """It is raised by each end if it is enabled, now or later, until it is acknowledged."""
    accelerator = await driver(dut)
    memory = accelerator.memory
    program = code(transfer(Opcode.LOAD, dram_address=BASE + 0x1000))
    memory.data[PROGRAM:PROGRAM + len(program)] = program
    await accelerator.write_wide("program", PROGRAM)
    await accelerator.set("control", "start")
    await cycles(dut.clk, 500)
    assert (await accelerator.status())["done"] == 1
    assert dut.interrupt.value == 0
    for _ in range(3):
        await accelerator.set("interrupt", "enable")
        await cycles(dut.clk, 2)
        assert dut.interrupt.value == 1
        await accelerator.set("interrupt", "enable", "acknowledge")
        await cycles(dut.clk, 100)
        assert dut.interrupt.value == 0
        assert (await accelerator.status())["done"] == 1, "acknowledging is no reset"
        await accelerator.set("control", "start")
        assert dut.interrupt.value == 0
        await accelerator.ended()
        await accelerator.set("interrupt")
        await cycles(dut.clk, 2)
        assert dut.interrupt.value == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_start_while_a_program_runs_is_refused(dut):
    accelerator = await driver(dut, latency=20)
    job = Job(CONFIG, SMALL, [2])
    job.place(accelerator.memory.data)
    before = bytes(accelerator.memory.data)
    await accelerator.launch(job.program.address)
    for _ in range(5):
        await accelerator.set("control", "start")
        assert await accelerator.status() == status_of(busy=1, refused=1)
    assert (await accelerator.ended())["done"] == 1
    job.check(before, accelerator.memory)
    assert await accelerator.read_wide("instructions") == len(job.program.instructions)
