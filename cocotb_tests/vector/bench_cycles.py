"""When the engines of the datapath accept and finish instructions, cycle by cycle: against the cycle model, and against
figures that stand here, for groups and tiles of few rows."""

import random

import cocotb
from celosia.firmware.machine.cycles import BankReads, Halves, MatmulCycles, VectorCycles
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import MATMUL, VECTOR, Function, Opcode
from celosia.hdl.vector.feeder import group_words
from celosia.hdl.vector.issuer import GROUP_SPACING, PARAMETER_SPACING
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

CONFIG = AcceleratorConfig.from_dict(bench_parameters())
FORMATS = {"matmul": MATMUL, "vector": VECTOR}
#: A bank for each kind of operand: nobody waits for another's.
PARAMETERS, OPERAND, A, B = (bank * CONFIG.bank_words for bank in range(4))
LIMIT = {"timeout_time": 10, "timeout_unit": "ms"}


class Engines:
    """Gives each engine its instructions as soon as it accepts them, and notes when it accepts and finishes them."""

    def __init__(self, dut):
        self._dut = dut

    async def start(self):
        for engine in FORMATS:
            getattr(self._dut, f"{engine}__command__valid").value = 0
        self._dut.load__enable.value = self._dut.store__enable.value = 0
        await start_clock(self._dut)

    def _command(self, engine, name):
        return getattr(self._dut, f"{engine}__command__{name}")

    async def _give(self, engine, instructions):
        payload, valid, ready = (self._command(engine, name) for name in ("payload", "valid", "ready"))
        mask = (1 << len(payload)) - 1
        for fields in instructions:
            word = FORMATS[engine].encode(opcode=Opcode[engine.upper()].value, **fields)
            payload.value = int.from_bytes(word, "little") & mask
            valid.value = 1
            await RisingEdge(self._dut.clk)
            while not int(ready.value):
                await RisingEdge(self._dut.clk)
        valid.value = 0

    async def run(self, **instructions):
        """Run instructions of each engine, all offered from cycle 0 on: for each engine the cycles in which they were
        accepted and finished."""
        times = {engine: ([], []) for engine in instructions}
        await RisingEdge(self._dut.clk)
        for engine, fields in instructions.items():
            cocotb.start_soon(self._give(engine, fields))
        cycle, after = 0, 0
        while after < 200:  # until the last entry of the row table is there
            await RisingEdge(self._dut.clk)
            for engine, (accepted, finished) in times.items():
                if int(self._command(engine, "valid").value) and int(self._command(engine, "ready").value):
                    accepted.append(cycle)
                if int(getattr(self._dut, f"{engine}__finished").value):
                    finished.append(cycle)
            cycle += 1
            after += all(len(times[engine][1]) == len(fields) for engine, fields in instructions.items())
        return times


def instruction(function, m, groups, **more):
    """Fields of a VECTOR instruction whose operands lie in banks of their own."""
    fields = {"function": function.value, "m": m, "groups": groups, "parameters": PARAMETERS, "operand": OPERAND,
              "operand_stride": 1, "destination": A, "destination_stride": 1, "accumulator_stride": 1, "shift": 1}
    fields |= more
    return {name: value for name, value in fields.items() if name in {field.name for field in VECTOR.fields}}


def models():
    halves, tiles = Halves(), BankReads(CONFIG)
    matmul = MatmulCycles(CONFIG, halves, tiles)
    return matmul, VectorCycles(CONFIG, halves, tiles, matmul)


def predicted(run, instructions):
    """Cycles in which ``run``, a model's, accepts and finishes ``instructions``, each offered after the other."""
    slots, ready = [], 0
    for fields in instructions:
        slots.append(run(fields, ready))
        ready = slots[-1].accepted + 1
    return [slot.accepted for slot in slots], [slot.finished for slot in slots]


def all_fields(format, fields):
    return {field.name: 0 for field in format.fields} | fields


async def check(dut, engine, instructions):
    engines = Engines(dut)
    await engines.start()
    measured = (await engines.run(**{engine: instructions}))[engine]
    matmul, vector = models()
    run = matmul.run if engine == "matmul" else lambda f, ready: vector.run(Function(f["function"]), f, ready)
    expected = predicted(run, [all_fields(FORMATS[engine], fields) for fields in instructions])
    told = [(f["m"], f.get("function"), f.get("groups"), f.get("n_tiles"), f.get("k_tiles"), f.get("accumulate"),
             f.get("accumulator"), *times) for f, *times in zip(instructions, *measured, *expected, strict=True)]
    assert measured == expected, told


@cocotb.test(**LIMIT)
async def vector_instructions_take_what_the_model_says(dut):
    """In any order, in either half, of any height, and with results and operands of either width."""
    for _ in range(30):
        instructions = []
        for _ in range(8):
            m = random.choice([1, 2, GROUP_SPACING - 1, GROUP_SPACING, PARAMETER_SPACING - 1, 12, 23, 40])
            function = random.choice(list(Function))
            groups = 1 if function is Function.LOAD_ROWS else random.randint(1, 4)
            flags = {flag: random.getrandbits(1) for flag in ("wide_result", "wide_operand", "causal")}
            half = random.getrandbits(1) * CONFIG.half_words
            unfinished = function is Function.RESIDUAL and random.random() < 0.3
            instructions.append(instruction(
                function, m, groups, accumulator=half, unfinished=unfinished, **flags))
        await check(dut, "vector", instructions)


@cocotb.test(**LIMIT)
async def matmul_instructions_take_what_the_model_says(dut):
    for _ in range(30):
        await check(dut, "matmul", [{
            "m": random.choice([*range(1, 8), CONFIG.cols - 1, CONFIG.cols, CONFIG.cols + 1, CONFIG.cols + 2, 30]),
            "n_tiles": random.randint(1, 3), "k_tiles": random.randint(1, 4), "accumulate": random.getrandbits(1),
            "accumulator": random.getrandbits(1) * CONFIG.half_words, "accumulator_stride": 1, "a": A, "a_stride": 1,
            "b": B, "b_stride": 1} for _ in range(6)])


@cocotb.test(**LIMIT)
async def engines_hand_a_half_over_as_the_model_says(dut):
    """A product, what the vector engine makes of it, and a product in the same half that waits for that."""
    for function in (Function.REQUANTISE, Function.RESIDUAL, Function.ROW_MAXIMUM):
        for m in (1, 7, 20):
            engines = Engines(dut)
            await engines.start()
            product = {"m": m, "n_tiles": 2, "k_tiles": 1, "accumulator_stride": m, "a": A, "a_stride": 1, "b": B,
                       "b_stride": 1}
            result = instruction(function, m, 4, accumulator_stride=m, destination=3 * CONFIG.bank_words - 300)
            # In a simulation the vector engine claims the half while the array works in it.
            measured = await engines.run(matmul=[product], vector=[
                instruction(Function.ROW_MAXIMUM, 1, 1, accumulator=CONFIG.half_words), result])
            matmul, vector = models()
            first = matmul.run(all_fields(MATMUL, product), 0)
            slots = predicted(lambda f, ready, vector=vector: vector.run(Function(f["function"]), f, ready), [
                all_fields(VECTOR, fields) for fields in (
                    instruction(Function.ROW_MAXIMUM, 1, 1, accumulator=CONFIG.half_words), result)])
            assert measured == {"matmul": ([first.accepted], [first.finished]), "vector": slots}, (function, m)


async def cycles_of_a_group(dut, function, m, rows_of=(20, 40)):
    """Cycles that one more group of ``m`` rows takes."""
    engines, ends = Engines(dut), []
    await engines.start()
    for groups in rows_of:
        ends.append((await engines.run(vector=[instruction(function, m, groups)]))["vector"][1][0])
    cycles, rest = divmod(ends[1] - ends[0], rows_of[1] - rows_of[0])
    assert rest == 0
    return cycles


@cocotb.test(**LIMIT)
async def groups_of_few_rows_take_few_cycles(dut):
    """With records of four scratchpad words, as every configuration has them whose lanes are half of its rows."""
    assert group_words(CONFIG, Function.GELU) == 8
    for function, cycles in ((Function.REQUANTISE, 9), (Function.GELU, 11), (Function.ROW_REQUANTISE, 5),
                             (Function.ATTENTION_OUTPUT, 9), (Function.LAYER_NORM, 9), (Function.ROW_MAXIMUM, 5)):
        assert await cycles_of_a_group(dut, function, 1) == cycles, function
        assert await cycles_of_a_group(dut, function, 16) == 16, function
    assert await cycles_of_a_group(dut, Function.RESIDUAL, 30) == 30


@cocotb.test(**LIMIT)
async def few_groups_of_many_rows_start_and_end_soon(dut):
    """Four groups of 64 rows, from the acceptance of the instruction to its end."""
    for function, cycles in ((Function.REQUANTISE, 285), (Function.GELU, 289), (Function.ROW_REQUANTISE, 283)):
        engines = Engines(dut)
        await engines.start()
        ((accepted,), (finished,)) = (await engines.run(vector=[instruction(function, 64, 4)]))["vector"]
        assert finished - accepted == cycles, function


@cocotb.test(**LIMIT)
async def a_tile_of_one_row_takes_as_long_as_it_shifts_in(dut):
    """Any number of tiles, which are added up or not."""
    ends = {}
    for n_tiles, k_tiles in ((3, 5), (3, 25), (33, 5)):
        engines = Engines(dut)
        await engines.start()
        ends[n_tiles, k_tiles] = (await engines.run(matmul=[{
            "m": 1, "n_tiles": n_tiles, "k_tiles": k_tiles, "accumulator_stride": 1, "a": A, "b": B, "b_stride": 1,
        }]))["matmul"][1][0]
    assert ends[3, 25] - ends[3, 5] == 3 * 20 * CONFIG.cols
    assert ends[33, 5] - ends[3, 5] == 30 * 5 * CONFIG.cols
