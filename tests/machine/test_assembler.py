"""Assembler, disassembler and listing."""

import re

import celosia.firmware.machine.assembler as assembler
import pytest
from celosia.firmware.machine.assembler import (
    AssemblerError,
    Instruction,
    assemble,
    disassemble,
    listing,
    semaphore_index,
    semaphore_name,
)
from celosia.hdl.isa import INSTRUCTION_BYTES, SEMAPHORES, Engine, Function, Opcode

PROGRAM = [
    Instruction(
        Opcode.LOAD,
        {
            "dram_address": 0x1_2345_6780,
            "count": 2,
            "dram_stride": 64,
            "words": 4,
            "scratchpad": 100,
            "scratchpad_stride": 4,
        },
        comment="layer 0 query weights",
        signal=1 << semaphore_index(Engine.LOAD, Engine.MATMUL),
    ),
    Instruction(
        Opcode.MATMUL,
        {
            "a": 1,
            "a_stride": 2,
            "b": 3,
            "b_stride": 4,
            "accumulator": 5,
            "accumulator_stride": 6,
            "m": 7,
            "n_tiles": 8,
            "k_tiles": 9,
            "accumulate": 1,
            "a_unsigned": 1,
        },
        wait=1 << semaphore_index(Engine.LOAD, Engine.MATMUL),
        tag=0xFFFF,
    ),
    Instruction(Opcode.VECTOR, {"m": 3, "groups": 2, "multiplier": 65535, "shift": 47}, Function.EXPONENTIAL),
    Instruction(Opcode.STORE, {"dram_address": 64, "count": 1, "words": 1}),
    Instruction(Opcode.END),
]


def same(a: Instruction, b: Instruction) -> bool:
    """Equal but for the comment and fields that are zero."""
    fields = [{key: value for key, value in i.fields.items() if value} for i in (a, b)]
    return (a.opcode, a.function, a.wait, a.signal, a.tag, fields[0]) == (
        b.opcode,
        b.function,
        b.wait,
        b.signal,
        b.tag,
        fields[1],
    )


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(assembler, name) for name in assembler.__all__)


def test_bytes_and_back() -> None:
    code = assemble(PROGRAM)
    assert len(code) == len(PROGRAM) * INSTRUCTION_BYTES
    assert all(same(a, b) for a, b in zip(PROGRAM, disassemble(code), strict=True))


def test_disassembly_stops_at_the_end() -> None:
    assert len(disassemble(assemble(PROGRAM) + bytes(INSTRUCTION_BYTES))) == len(PROGRAM)


def test_engines() -> None:
    assert [i.engine for i in PROGRAM] == [Engine.LOAD, Engine.MATMUL, Engine.VECTOR, Engine.STORE, None]


def test_every_pair_of_engines_has_a_semaphore() -> None:
    indexes = {semaphore_index(a, b) for a in Engine for b in Engine}
    assert indexes == set(range(SEMAPHORES))
    assert semaphore_name(semaphore_index(Engine.LOAD, Engine.MATMUL)) == "load>matmul"
    assert semaphore_name(semaphore_index(Engine.VECTOR, Engine.STORE)) == "vector>store"


def test_listing() -> None:
    lines = listing(PROGRAM, 0x1000).splitlines()
    assert len(lines) == len(PROGRAM)
    assert re.fullmatch(
        r"0x00001000  load +dram_address=0x123456780 count=2 dram_stride=64 words=4 scratchpad=100 "
        r"scratchpad_stride=4 signal\(load>matmul\) +; layer 0 query weights",
        lines[0],
    )
    assert "wait(load>matmul)" in lines[1]
    assert lines[2].startswith("0x00001040  exponential ")
    assert lines[4] == "0x00001080  end"


def test_a_value_that_does_not_fit_is_refused() -> None:
    program = [PROGRAM[0], Instruction(Opcode.MATMUL, {"m": 1 << 16}, comment="layer 3 scores")]
    rule = "instruction 1 (layer 3 scores): matmul.m must be from 0 to 65535, not 65536"
    with pytest.raises(AssemblerError, match=re.escape(rule)):
        assemble(program)


@pytest.mark.parametrize("record", [bytes(32), bytes([5, 99]) + bytes(30)])
def test_no_instruction_is_refused(record: bytes) -> None:
    with pytest.raises(AssemblerError, match=f"{record[:2].hex()} starts no instruction"):
        disassemble(record)


def test_a_broken_length_is_refused() -> None:
    with pytest.raises(AssemblerError, match="a program must be a multiple of 32 bytes, not 33"):
        disassemble(bytes(33))
