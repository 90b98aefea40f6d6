"""What the functional machine refuses: rule and value, and the number of the instruction."""

import numpy as np
import pytest
from celosia.hdl.isa import (
    CHORD,
    CURVE_PIECES,
    FIRST_PARAMETERS,
    FORMATS,
    ROW_RECORD,
    SECOND_PARAMETERS,
    Function,
    Opcode,
)
from celosia.sim.functional import FunctionalMachine, ProgramError

from tests.programs import (
    BASE,
    DATA,
    PROGRAM,
    SQUARE,
    between,
    image,
    load,
    matmul,
    pack_records,
    refusal,
    run,
    store,
    vector,
)


def test_refuses_what_is_no_instruction():
    machine = FunctionalMachine(SQUARE)
    with pytest.raises(ProgramError, match=r"^instruction 0 \(decode\): the opcode must be one of "
                                           r"\[1, 2, 3, 4, 5\], not 0$") as caught:
        machine.run(image(), PROGRAM, BASE)
    assert caught.value.index == 0
    code = FORMATS[Opcode.VECTOR].encode(opcode=5, function=14)
    with pytest.raises(ProgramError, match=r"the function must be one of \[1, 2, .*13\], not 14$"):
        machine.run(image((PROGRAM, code)), PROGRAM, BASE)
    with pytest.raises(ProgramError, match=r"^instruction 0 \(fetch\): DRAM bytes must lie in the window "
                                           r"from 0x1000 to 0x9000, not from 0x9000 to 0x9020$"):
        machine.run(image(), 0x9000, BASE)


def test_refuses_bad_arguments():
    machine = FunctionalMachine(SQUARE)
    with pytest.raises(ValueError, match=r"^memory must be a contiguous uint8 array of one dimension$"):
        machine.run(np.zeros(64, np.int8), 0)
    with pytest.raises(ValueError, match=r"^program_address must be a multiple of 8 bytes, not 0x4$"):
        machine.run(np.zeros(64, np.uint8), 4)
    with pytest.raises(ValueError, match=r"^base_address must be a multiple of 8 bytes, not 0x1004$"):
        machine.run(np.zeros(64, np.uint8), 0x1008, 0x1004)


@pytest.mark.parametrize(("instruction", "message"), [
    (load(words=1, dram_address=DATA + 4),
     "(LOAD): dram_address must be a multiple of the bus's 8 bytes, not 0x2004"),
    (load(words=1, dram_address=DATA, dram_stride=12, count=2),
     "(LOAD): dram_stride must be a multiple of the bus's 8 bytes, not 0xc"),
    (load(words=1, dram_address=DATA, count=0), "(LOAD): count must be at least 1, not 0"),
    (load(words=0, dram_address=DATA), "(LOAD): words must be at least 1, not 0"),
    (load(words=2, dram_address=DATA, scratchpad=4095),
     "(LOAD): scratchpad must stay below scratchpad word 4096, not reach 4096"),
    (store(words=2, dram_address=DATA, count=2, scratchpad=4094, scratchpad_stride=2),
     "(STORE): scratchpad must stay below scratchpad word 4096, not reach 4097"),
    (load(words=1, dram_address=BASE - 8),
     "(LOAD): DRAM bytes must lie in the window from 0x1000 to 0x9000, not from 0xff8 to 0x1000"),
    (store(words=1, dram_address=0x9000 - 8, dram_stride=8, count=2),
     "(STORE): DRAM bytes must lie in the window from 0x1000 to 0x9000, not from 0x8ff8 to 0x9008"),
    (store(words=4, dram_address=PROGRAM), "(STORE): a store must not touch the program at 0x1000, "
     "as from 0x1000 to 0x1010"),
    (matmul(m=0), "(MATMUL): m must be at least 1, not 0"),
    (matmul(n_tiles=0), "(MATMUL): n_tiles must be at least 1, not 0"),
    (matmul(k_tiles=0), "(MATMUL): k_tiles must be at least 1, not 0"),
    (matmul(k_tiles=1025), "(MATMUL): k_tiles * rows must be at most max_k = 4096, not 4100"),
    (matmul(a=4096), "(MATMUL): a must stay below scratchpad word 4096, not reach 4096"),
    (matmul(b=4000, b_stride=32), "(MATMUL): b must stay below scratchpad word 4096, not reach 4096"),
    (matmul(accumulator=1023, m=2),
     "(MATMUL): accumulator must stay below accumulator word 1024, not reach 1024"),
    (matmul(accumulator=511, m=2),
     "(MATMUL): accumulator must stay in one half of 512 words, not go from 511 to 512"),
    (matmul(m=3, n_tiles=2, accumulator_stride=2),
     "(MATMUL): accumulator_stride must be at least m = 3, not 2"),
    (vector(Function.REQUANTISE, m=0), "(REQUANTISE): m must be from 1 to row_entries - row = 512, not 0"),
    (vector(Function.GELU, m=13, row=500), "(GELU): m must be from 1 to row_entries - row = 12, not 13"),
    (vector(Function.REQUANTISE, groups=0), "(REQUANTISE): groups must be at least 1, not 0"),
    (vector(Function.REQUANTISE, parameters=4095),
     "(REQUANTISE): parameters must stay below scratchpad word 4096, not reach 4102"),
    (vector(Function.REQUANTISE, destination=4096),
     "(REQUANTISE): destination must stay below scratchpad word 4096, not reach 4096"),
    (vector(Function.REQUANTISE, m=2),
     "(REQUANTISE): destination_stride must be at least the 1 words of a row, not 0"),
    (vector(Function.ROW_MAXIMUM, accumulator=1024),
     "(ROW_MAXIMUM): accumulator must stay below accumulator word 1024, not reach 1024"),
    (vector(Function.EXPONENTIAL, row=3),
     "(EXPONENTIAL): row table entry 3 must hold a maximum, not nothing"),
    (vector(Function.RESIDUAL), "(RESIDUAL): shift must be from 1 to 47, not 0"),
    (vector(Function.RESIDUAL, operand=4096),
     "(RESIDUAL): operand must stay below scratchpad word 4096, not reach 4096"),
    (vector(Function.LAYER_NORM),
     "(LAYER_NORM): row table entry 0 must hold a mean, multiplier and shift, not nothing"),
    (load(words=1, dram_address=DATA, wait=between("matmul", "load")),
     "(LOAD): semaphore 8 must be above zero to be waited for"),
    (load(words=1, dram_address=DATA, wait=between("load", "matmul")),
     "(LOAD): semaphore 2 must go from another engine to LOAD to be waited for, not from LOAD to MATMUL"),
    (store(words=1, dram_address=DATA, wait=between("store", "store")),
     "(STORE): semaphore 5 must go from another engine to STORE to be waited for, not from STORE to STORE"),
    (matmul(signal=between("vector", "matmul")),
     "(MATMUL): semaphore 14 must go from MATMUL to another engine to be signalled, not from VECTOR to MATMUL"),
    (vector(Function.REQUANTISE, signal=between("vector", "vector")),
     "(REQUANTISE): semaphore 15 must go from VECTOR to another engine to be signalled, not from VECTOR to VECTOR"),
])
def test_refuses_instructions(instruction, message):
    assert refusal(SQUARE, load(words=2, dram_address=DATA), instruction) == f"instruction 1 {message}"


def test_refuses_parameters_that_were_computed():
    result = vector(Function.REQUANTISE, parameters=8, destination=40, destination_stride=1)
    assert refusal(SQUARE, load(words=64, dram_address=DATA), result, vector(Function.ROW_MAXIMUM, parameters=40)) == (
        "instruction 2 (ROW_MAXIMUM): parameters must be loaded, and scratchpad word 40 holds a result")


def test_refuses_the_wrong_kind_of_row():
    message = refusal(SQUARE, vector(Function.ROW_MAXIMUM), vector(Function.ATTENTION_OUTPUT))
    assert message == ("instruction 1 (ATTENTION_OUTPUT): row table entry 0 must hold a multiplier and "
                       "shift, not a maximum")


@pytest.mark.parametrize(("function", "record", "message"), [
    (Function.REQUANTISE, FIRST_PARAMETERS.encode(multiplier=1, shift=48),
     "first record 0 must be from 1 to 47, not 48"),
    (Function.REQUANTISE, FIRST_PARAMETERS.encode(multiplier=1),
     "first record 0 must be from 1 to 47, not 0"),
    (Function.LOAD_ROWS, ROW_RECORD.encode(multiplier=1), "row record 0 must be from 1 to 47, not 0"),
    (Function.GELU, bytes(40) + SECOND_PARAMETERS.encode(offset=1),
     "second record 1 must be from 1 to 31, not 0"),
    (Function.GELU, bytes(40) + SECOND_PARAMETERS.encode(shift=32),
     "second record 1 must be from 1 to 31, not 32"),
])
def test_refuses_shifts(function, record, message):
    machine = FunctionalMachine(SQUARE)
    machine.scratchpad.reshape(-1)[: len(record)] = np.frombuffer(record, np.uint8)
    assert refusal(SQUARE, vector(function), machine=machine) == (
        f"instruction 0 ({function.name}): the shift of {message}")


def test_refuses_sums_that_do_not_fit():
    machine = FunctionalMachine(SQUARE)
    machine.accumulators[0] = 2**31 - 1
    machine.scratchpad[:4] = 1
    assert refusal(SQUARE, matmul(accumulate=1), machine=machine) == (
        "instruction 0 (MATMUL): a sum must fit 32 bits, not reach 2147483651")


def chords(**fields):
    """A curve of zeros, but for piece 5."""
    return CHORD.encode() * 5 + CHORD.encode(**fields) + CHORD.encode() * (CURVE_PIECES - 6)


@pytest.mark.parametrize(("records", "shift", "message"), [
    (chords(), 2, "a piece must have a width from 3 to 7, not 2"),
    (chords(), 8, "a piece must have a width from 3 to 7, not 8"),
    (chords(base=2**15), 5, "base of piece 5 must be from 0 to 32767, not 32768"),
    (chords(slope=256), 5, "slope of piece 5 must be from -256 to 255, not 256"),
    (chords(base=100, slope=-20), 3, "base + slope * step + 32 of piece 5 must be from 0 to 32767, not -8"),
])
def test_refuses_curves(records, shift, message):
    machine = FunctionalMachine(SQUARE)
    machine.scratchpad.reshape(-1)[: len(records)] = np.frombuffer(records, np.uint8)
    assert refusal(SQUARE, vector(Function.LOAD_CURVE, shift=shift), machine=machine) == (
        f"instruction 0 (LOAD_CURVE): {message}")


def machine_with_records():
    """A machine with a first and a second record for each lane at its first words."""
    machine, lanes = FunctionalMachine(SQUARE), SQUARE.lanes
    records = pack_records(SQUARE, lanes, [bytes(8)] * lanes, [SECOND_PARAMETERS.encode(shift=1)] * lanes)
    machine.scratchpad.reshape(-1)[: len(records)] = np.frombuffer(records, np.uint8)
    return machine


@pytest.mark.parametrize("function", [Function.ACTIVATION, Function.GATED])
def test_refuses_to_use_a_curve_before_it_is_loaded(function):
    machine = machine_with_records()
    use = vector(function, operand=40, destination=60)
    assert refusal(SQUARE, use, machine=machine) == (
        f"instruction 0 ({function.name}): a curve must have been loaded before it is used")
    run(SQUARE, vector(Function.LOAD_CURVE, parameters=100, shift=5), use, machine=machine)


def test_refuses_a_gated_product_with_a_record_of_zeros():
    assert refusal(SQUARE, vector(Function.LOAD_CURVE, parameters=100, shift=5), vector(Function.GATED)) == (
        "instruction 1 (GATED): the shift of second record 0 must be from 1 to 31, not 0")


@pytest.mark.parametrize(("fields", "word"), [
    ({"operand": 60}, 60),
    ({"operand": 62}, 62),
    ({"operand": 59, "wide_operand": 1}, 60),
    ({"operand": 65, "destination_stride": 2, "wide_result": 1}, 65),
])
def test_refuses_an_operand_that_touches_the_result(fields, word):
    fields = {"m": 3, "operand_stride": 1, "destination": 60, "destination_stride": 1, **fields}
    curve = vector(Function.LOAD_CURVE, parameters=100, shift=5)
    assert refusal(SQUARE, curve, vector(Function.GATED, **fields), machine=machine_with_records()) == (
        f"instruction 1 (GATED): operand and destination must not share words, as scratchpad word {word}")
    apart = vector(Function.GATED, **{**fields, "operand": 66})
    run(SQUARE, curve, apart, machine=machine_with_records())


@pytest.mark.parametrize(("fields", "limit", "found"), [
    ({}, 2**20, 255 * 4116), ({"wide_result": 1}, 2**24, 4080 * 4116)])
def test_refuses_numerators_that_sum_to_too_much(fields, limit, found):
    """4116 columns of the largest numerator; 4112 are not refused."""
    machine = FunctionalMachine(SQUARE)
    machine.scratchpad[:] = 1  # every column counts
    machine.accumulators[:] = 0
    groups = 257  # of 4 columns
    for count, continues in enumerate((0, 1, 1, 1, 1)):
        part = {"groups": groups if count < 4 else 1, "accumulator_stride": 1, "shift": 1, "destination": 3000,
                "continues": continues, "unfinished": int(count < 4)}
        program = [vector(Function.ROW_MAXIMUM)] if not count else []
        program.append(vector(Function.EXPONENTIAL, **part, **fields))
        machine.scratchpad[:] = 1
        machine._memories.computed[:] = False
        if count < 4:
            run(SQUARE, *program, machine=machine)
    assert 4112 * found // 4116 < limit
    assert refusal(SQUARE, *program, machine=machine) == (
        "instruction 0 (EXPONENTIAL): a row's numerators must sum to less than "
        f"2**{limit.bit_length() - 1}, not to {found}")


def test_refuses_semaphores_left_over_or_overflowing():
    give = load(words=1, dram_address=DATA, signal=between("load", "vector"))
    assert refusal(SQUARE, give) == "instruction 1 (END): semaphore 3 must be back at zero, not at 1"
    assert refusal(SQUARE, *[give] * 256) == "instruction 255 (LOAD): semaphore 3 must not exceed 255"


def test_refuses_semaphores_on_end():
    memory = image((PROGRAM, FORMATS[Opcode.END].encode(opcode=1, signal=1)))
    with pytest.raises(ProgramError, match=r"^instruction 0 \(END\): END must neither wait nor signal$"):
        FunctionalMachine(SQUARE).run(memory, PROGRAM, BASE)


def test_window_is_checked():
    inside = load(words=2, dram_address=DATA)
    run(SQUARE, inside, window=(PROGRAM, DATA + 8))
    assert refusal(SQUARE, inside, window=(PROGRAM, DATA)) == (
        "instruction 0 (LOAD): DRAM bytes must lie in the window from 0x1000 to 0x2000, "
        "not from 0x2000 to 0x2008")
    # A burst is whole beats: one word of four bytes takes the beat of eight.
    assert "not from 0x2000 to 0x2008" in refusal(SQUARE, load(words=1, dram_address=DATA),
                                                  window=(PROGRAM, DATA + 4))
