"""Synchronisation: which edges are found, which are left out, and that semaphores never overflow."""

import random
import re

import celosia.firmware.machine.dependencies as dependencies
import pytest
from celosia.firmware.machine.accesses import Access, Space, accesses
from celosia.firmware.machine.assembler import Instruction, semaphore_index
from celosia.firmware.machine.dependencies import Edge, SynchronisationError, synchronise
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Engine, Function, Opcode

CONFIG = AcceleratorConfig()
DRAM = (0x1000, 0x10000)


def load(word: int, words: int = 1, dram: int = 0) -> Instruction:
    return Instruction(
        Opcode.LOAD,
        {
            "dram_address": dram,
            "count": 1,
            "dram_stride": 0,
            "words": words,
            "scratchpad": word,
            "scratchpad_stride": words,
        },
    )


def store(word: int, words: int = 1, dram: int = 0x1000) -> Instruction:
    return Instruction(
        Opcode.STORE,
        {
            "dram_address": dram,
            "count": 1,
            "dram_stride": 0,
            "words": words,
            "scratchpad": word,
            "scratchpad_stride": words,
        },
    )


def matmul(a: int, b: int, accumulator: int, accumulate: int = 0) -> Instruction:
    return Instruction(
        Opcode.MATMUL,
        {
            "a": a,
            "a_stride": 1,
            "b": b,
            "b_stride": 1,
            "accumulator": accumulator,
            "accumulator_stride": 4,
            "m": 4,
            "n_tiles": 1,
            "k_tiles": 1,
            "accumulate": accumulate,
        },
    )


def vector(accumulator: int, destination: int, parameters: int = 9000) -> Instruction:
    return Instruction(
        Opcode.VECTOR,
        {
            "accumulator": accumulator,
            "accumulator_stride": 4,
            "destination": destination,
            "destination_stride": 1,
            "parameters": parameters,
            "m": 4,
            "groups": 1,
        },
        Function.REQUANTISE,
    )


def edges(*program: Instruction) -> list[tuple[int, int]]:
    return [(edge.producer, edge.consumer) for edge in synchronise(CONFIG, program, DRAM)]


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(dependencies, name) for name in dependencies.__all__)


def test_read_after_write() -> None:
    program = load(0, 4), load(100, 16), matmul(0, 100, 0)
    assert edges(*program) == [(1, 2)]
    bit = 1 << semaphore_index(Engine.LOAD, Engine.MATMUL)
    assert (program[0].signal, program[1].signal, program[2].wait) == (0, bit, bit)
    assert [instruction.tag for instruction in program] == [0, 1, 2]


def test_write_after_read() -> None:
    assert edges(matmul(0, 100, 0), load(115)) == [(0, 1)]
    assert edges(matmul(0, 100, 0), load(116)) == []
    assert edges(matmul(0, 100, 0), load(3)) == [(0, 1)]
    assert edges(matmul(0, 100, 0), load(4)) == []


def test_write_after_write() -> None:
    assert edges(vector(0, 50), load(53)) == [(0, 1)]
    assert edges(vector(0, 50), load(54)) == []


def test_accumulators() -> None:
    assert edges(matmul(0, 100, 0), vector(0, 200), matmul(0, 100, 0)) == [(0, 1), (1, 2)]
    assert edges(matmul(0, 100, 0), vector(4, 200)) == []


def test_parameters_are_read() -> None:
    assert edges(load(9007), vector(0, 200)) == [(0, 1)]
    assert edges(load(9008), vector(0, 200)) == []


def test_dram_is_followed_where_the_program_writes() -> None:
    assert edges(store(0, 4, 0x1000), load(50, 1, 0x1030)) == [(0, 1)]
    assert edges(store(0, 4, 0x1000), load(50, 1, 0x1040)) == []
    assert edges(load(50, 1, 0x1030), store(0, 4, 0x1000)) == [(0, 1)]


def test_instructions_of_one_engine_need_nothing() -> None:
    assert edges(load(0), load(0), load(0)) == []
    assert edges(matmul(0, 100, 0), matmul(0, 100, 0, 1)) == []


def test_only_the_last_producer_counts() -> None:
    assert edges(load(0), load(1), load(2), load(3), matmul(0, 100, 0)) == [(3, 4)]


def test_what_an_earlier_wait_covers_is_left_out() -> None:
    assert edges(load(0), load(100), matmul(0, 100, 0), matmul(0, 100, 4)) == [(1, 2)]


def test_what_other_engines_imply_is_left_out() -> None:
    # The store waits for the vector engine, which has waited for the array, which has waited for the load.
    assert edges(load(0), matmul(0, 100, 0), vector(0, 0), store(0)) == [(0, 1), (1, 2), (2, 3)]


def test_a_producer_signals_several_engines() -> None:
    program = load(9000, 200), vector(0, 200), matmul(9100, 9150, 4)
    assert edges(*program) == [(0, 1), (0, 2)]
    assert program[0].signal.bit_count() == 2


def test_strided_rows() -> None:
    strided = matmul(0, 100, 0)
    strided.fields["a_stride"] = 10
    assert edges(load(20), strided) == [(0, 1)]
    assert edges(load(21), strided) == []


def test_accesses_of_a_residual() -> None:
    instruction = Instruction(
        Opcode.VECTOR,
        {
            "accumulator": 8,
            "accumulator_stride": 16,
            "operand": 300,
            "operand_stride": 5,
            "parameters": 1000,
            "m": 2,
            "groups": 3,
        },
        Function.RESIDUAL,
    )
    words = CONFIG.parameter_words
    assert set(accesses(CONFIG, instruction)) == {
        Access(Space.ACCUMULATOR, False, 8, 3, 16, 2),
        Access(Space.ACCUMULATOR, True, 8, 3, 16, 2),
        Access(Space.SCRATCHPAD, False, 1000, 1, 6 * words, 6 * words),
        Access(Space.SCRATCHPAD, False, 300, 2, 5, 3),
    }


WIDE = {"causal": 1, "wide_result": 1, "wide_operand": 1}


@pytest.mark.parametrize(
    ("function", "flags", "operand", "result", "parameters"),
    [
        (Function.GATED, {}, 3, 3, 6),
        (Function.GATED, WIDE, 6, 6, 6),
        (Function.ACTIVATION, WIDE, 0, 6, 6),
        (Function.RESIDUAL, WIDE, 6, 0, 6),
        (Function.EXPONENTIAL, WIDE, 0, 6, None),
        (Function.ROW_MAXIMUM, WIDE, 0, 0, None),
        (Function.RAW, WIDE, 0, 12, 0),
    ],
)
def test_accesses_of_wide_tensors(
    function: Function, flags: dict[str, int], operand: int, result: int, parameters: int | None
) -> None:
    """``operand``, ``result`` and ``parameters``: words a row, and units of ``parameter_words`` or a word a group."""
    fields = {"operand": 300, "operand_stride": 50, "destination": 700, "destination_stride": 60, "parameters": 1000,
              "m": 2, "groups": 3, "accumulator_stride": 2, **flags}
    expected = {Access(Space.ACCUMULATOR, False, 0, 3, 2, 2)}
    words = 3 if parameters is None else parameters * CONFIG.parameter_words
    if words:
        expected.add(Access(Space.SCRATCHPAD, False, 1000, 1, words, words))
    if function is Function.RESIDUAL:
        expected.add(Access(Space.ACCUMULATOR, True, 0, 3, 2, 2))
    if operand:
        expected.add(Access(Space.SCRATCHPAD, False, 300, 2, 50, operand))
    if result:
        expected.add(Access(Space.SCRATCHPAD, True, 700, 2, 60, result))
    fields = {"accumulator": 0, **fields}
    assert set(accesses(CONFIG, Instruction(Opcode.VECTOR, fields, function))) == expected


def test_accesses_of_a_curve() -> None:
    instruction = Instruction(Opcode.VECTOR, {"parameters": 1000, "m": 0, "groups": 0}, Function.LOAD_CURVE)
    words = 32 * 4 // CONFIG.word_bytes
    assert accesses(CONFIG, instruction) == [Access(Space.SCRATCHPAD, False, 1000, 1, words, words)]


def test_outside_a_memory_is_refused() -> None:
    with pytest.raises(SynchronisationError, match="outside 0 to 16384"):
        edges(load(16384))


def test_an_engine_that_runs_too_far_ahead_is_held_back() -> None:
    program: list[Instruction] = []
    for word in range(1000, 1600):
        reader = matmul(word, 100, 0)
        reader.fields["m"] = 1
        program += [load(word), reader]
    found = edges(*program)
    forward = [(i, i + 1) for i in range(0, 1200, 2)]
    assert set(forward) < set(found)
    held = sorted(set(found) - set(forward))
    assert held
    assert all(producer % 2 == 1 and consumer % 2 == 0 for producer, consumer in held)


def test_a_semaphore_that_could_overflow_is_refused() -> None:
    program: list[Instruction] = [load(word) for word in range(1000, 1256)]
    for word in range(1000, 1256):
        reader = matmul(word, 100, 0)
        reader.fields["m"] = 1
        program.append(reader)
    rule = "semaphore load>matmul could count beyond 255"
    with pytest.raises(SynchronisationError, match=re.escape(rule)):
        edges(*program)


def _random_instruction(rng: random.Random) -> Instruction:
    word, other, accumulator = rng.randrange(60), rng.randrange(50), 4 * rng.randrange(3)
    match rng.randrange(4):
        case 0:
            return load(word, rng.randrange(1, 9), rng.choice([0, 0x1000, 0x1040]))
        case 1:
            return store(word, rng.randrange(1, 9), rng.choice([0x1000, 0x1040]))
        case 2:
            return matmul(word, other, accumulator, rng.randrange(2))
        case _:
            return vector(accumulator, word, other)


def _touched(instruction: Instruction, write: bool) -> set[tuple[Space, int]]:
    return {
        (access.space, access.start + i * access.stride + j)
        for access in accesses(CONFIG, instruction)
        if access.write == write
        for i in range(access.count)
        for j in range(access.width)
    }


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_are_ordered_and_no_edge_is_idle(seed: int) -> None:
    """Every conflict is covered by a chain of edges and of engines' own order, and no edge can be left
    out."""
    rng = random.Random(seed)
    program = [_random_instruction(rng) for _ in range(60)]
    found = synchronise(CONFIG, program, DRAM)

    def reach(kept: list[Edge]) -> list[set[int]]:
        """For each instruction, those that have finished when it starts."""
        started: list[set[int]] = []
        last: dict[Engine | None, int] = {}
        for index, instruction in enumerate(program):
            done = set(started[last[instruction.engine]]) if instruction.engine in last else set()
            for edge in kept:
                if edge.consumer == index:
                    producer = program[edge.producer].engine
                    done |= started[edge.producer] | {
                        i for i in range(edge.producer + 1) if program[i].engine is producer
                    }
            started.append(done)
            last[instruction.engine] = index
        return started

    reads, writes = ([_touched(i, write) for i in program] for write in (False, True))
    conflicts = [
        (i, j)
        for j in range(len(program))
        for i in range(j)
        if program[i].engine is not program[j].engine
        and (writes[i] & (reads[j] | writes[j]) or reads[i] & writes[j])
    ]
    done = reach(found)
    assert all(i in done[j] for i, j in conflicts)
    for edge in found:
        without = reach([other for other in found if other is not edge])
        assert not all(i in without[j] for i, j in conflicts)
