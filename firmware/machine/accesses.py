"""What an instruction reads and writes: derived from its fields alone, so that no scheduler can misstate
it."""

from dataclasses import dataclass, replace
from enum import IntEnum

from ...hdl.config import AcceleratorConfig
from ...hdl.functions import TRAITS, operand_words, result_words
from ...hdl.isa import CHORD, CURVE_PIECES, ROW_RECORD, Function, Opcode
from .assembler import Instruction

__all__ = ["Access", "Space", "accesses"]


class Space(IntEnum):
    """A memory. The row table is not among them: only the vector engine uses it, in order."""

    SCRATCHPAD = 0
    ACCUMULATOR = 1
    DRAM = 2


@dataclass(frozen=True, slots=True)
class Access:
    """``count`` rows of ``width`` words (bytes in DRAM), ``stride`` apart, from ``start``."""

    space: Space
    write: bool
    start: int
    count: int
    stride: int
    width: int


def _transfer(config: AcceleratorConfig, load: bool, f: dict[str, int]) -> list[Access]:
    size = f["words"] * config.word_bytes
    return [
        Access(Space.DRAM, not load, f["dram_address"], f["count"], f.get("dram_stride", 0), size),
        Access(
            Space.SCRATCHPAD, load, f["scratchpad"], f["count"], f.get("scratchpad_stride", 0), f["words"]
        ),
    ]


def _matmul(config: AcceleratorConfig, f: dict[str, int]) -> list[Access]:
    k = f["k_tiles"]
    sums = (f["accumulator"], f["n_tiles"], f["accumulator_stride"], f["m"])
    result = [
        Access(Space.SCRATCHPAD, False, f["a"], f["m"], f["a_stride"], 2 * k - 1 if f.get("a_wide") else k),
        Access(Space.SCRATCHPAD, False, f["b"], f["n_tiles"] * config.cols, f["b_stride"], k),
        Access(Space.ACCUMULATOR, True, *sums),
    ]
    if f.get("accumulate"):
        result.append(Access(Space.ACCUMULATOR, False, *sums))
    return result


def _vector(config: AcceleratorConfig, function: Function, f: dict[str, int]) -> list[Access]:
    pad, m, traits = Space.SCRATCHPAD, f["m"], TRAITS[function]
    table = {Function.LOAD_ROWS: m * ROW_RECORD.size, Function.LOAD_CURVE: CURVE_PIECES * CHORD.size}.get(function)
    if table:
        words = -(-table // config.word_bytes)
        return [Access(pad, False, f["parameters"], 1, words, words)]
    groups = f["groups"]
    tiles = -(-groups * config.lanes // config.cols)
    sums = Access(Space.ACCUMULATOR, False, f["accumulator"], tiles, f["accumulator_stride"], m)
    result = [sums]
    words = groups * (1 if traits.mask else (traits.first + traits.second) * config.parameter_words)
    if words:
        result.append(Access(pad, False, f["parameters"], 1, words, words))
    width = -(-groups * config.lanes // config.word_bytes)
    if function is Function.RESIDUAL:
        result.append(replace(sums, write=True))
    if traits.operand:
        result.append(Access(pad, False, f["operand"], m, f["operand_stride"], width * operand_words(function, f)))
    if traits.writes_scratchpad:
        result.append(
            Access(pad, True, f["destination"], m, f["destination_stride"], width * result_words(function, f)))
    return result


def accesses(config: AcceleratorConfig, instruction: Instruction) -> list[Access]:
    """Everything that ``instruction`` reads and writes, except instructions, semaphores and the row table."""
    match instruction.opcode:
        case Opcode.LOAD | Opcode.STORE:
            return _transfer(config, instruction.opcode is Opcode.LOAD, instruction.fields)
        case Opcode.MATMUL:
            return _matmul(config, instruction.fields)
        case Opcode.VECTOR:
            assert instruction.function is not None
            return _vector(config, instruction.function, instruction.fields)
    return []
