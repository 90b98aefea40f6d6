"""The instruction set: the one definition that decoder, assembler, header and documents are made from.

A program is an array of 32-byte instructions in DRAM. The sequencer fetches them in order and hands each
to the queue of its engine; engines run on their own, ordered only by counting semaphores.

Rules
-----
1. An instruction starts when its engine is free and every semaphore in ``wait`` is above zero; each of
   those is then decremented, all in one cycle.
2. An instruction has finished when its last result is stored (a store: when its last write response has
   come); only then is every semaphore in ``signal`` incremented.
3. An engine finishes its instructions in the order in which it was given them.
   A VECTOR instruction sees in accumulators, row table, curve and operand what VECTOR instructions before it
   have stored.
4. ``END`` waits until every engine has finished, then ends the program; it takes and gives no semaphore.
5. Of the bits that an opcode does not define, the hardware ignores each and the assembler writes zero. Of the fields
   of VECTOR it ignores those that its function does not use.
6. A semaphore has one giver and one taker: number ``4 * giver + taker`` belongs to the engines of these numbers (LOAD
   0, STORE 1, MATMUL 2, VECTOR 3), which are two. An instruction that signals or waits for another one is illegal.
7. An instruction waits only for signals of instructions before it in the program: while one has not finished, those
   that come more than a few hundred after it are not handed out.
"""

from dataclasses import dataclass
from functools import cached_property

from amaranth import Shape
from amaranth.lib import data

from .enums import Enum

__all__ = [
    "CHORD",
    "CURVE_PIECES",
    "END",
    "FIRST_PARAMETERS",
    "FORMATS",
    "FUNCTIONS",
    "INSTRUCTION_BYTES",
    "MATMUL",
    "RECORDS",
    "ROW_RECORD",
    "SECOND_PARAMETERS",
    "SEMAPHORES",
    "SEMAPHORE_BITS",
    "TRANSFER",
    "VECTOR",
    "Engine",
    "Field",
    "Format",
    "Function",
    "Opcode",
    "semaphore_engines",
    "semaphore_index",
]

INSTRUCTION_BYTES = 32
SEMAPHORES = 16
#: Width of a semaphore's counter; a signal beyond its range is an error, not a wrap.
SEMAPHORE_BITS = 8


class Engine(Enum, shape=2):
    """The engines, each with an instruction queue of its own. Loads and stores are queued apart, so that
    a store that waits for its tensor never holds up the loads behind it."""

    LOAD = 0
    STORE = 1
    MATMUL = 2
    VECTOR = 3


def semaphore_index(giver: Engine, taker: Engine) -> int:
    """The semaphore by which ``giver`` tells ``taker`` that something is done (rule 6)."""
    return giver.value * len(Engine) + taker.value


def semaphore_engines(index: int) -> tuple[Engine, Engine]:
    """Giver and taker of a semaphore: the inverse of :func:`semaphore_index`. Nobody has one to itself."""
    giver, taker = divmod(index, len(Engine))
    return Engine(giver), Engine(taker)


class Opcode(Enum, shape=8):
    """What an instruction does. Zero is no opcode: a program that runs into cleared memory stops."""

    END = 1
    LOAD = 2
    STORE = 3
    MATMUL = 4
    VECTOR = 5


class Function(Enum, shape=8):
    """What a vector instruction does to each accumulator; formulas in ``docs/numerics.md``.

    ``FUNCTIONS`` tells what each reads and gives."""

    REQUANTISE = 1
    GELU = 2
    ROW_MAXIMUM = 3
    EXPONENTIAL = 4
    ATTENTION_OUTPUT = 5
    ROW_REQUANTISE = 6
    RESIDUAL = 7
    LAYER_NORM = 8
    LOAD_ROWS = 9
    LOAD_CURVE = 10
    ACTIVATION = 11
    GATED = 12
    RAW = 13


#: The parameter records that a function reads, and its result. In place of int8 there are 16 bits with ``wide_result``,
#: in place of uint8 12.
FUNCTIONS: dict[Function, tuple[str, str]] = {
    Function.REQUANTISE: ("first", "int8 to the scratchpad"),
    Function.GELU: ("first, second", "int8 to the scratchpad"),
    Function.ROW_MAXIMUM: ("mask", "row table: maximum over the columns that count"),
    Function.EXPONENTIAL: ("mask", "uint8 numerators to the scratchpad; row table: reciprocal"),
    Function.ATTENTION_OUTPUT: ("second", "int8 to the scratchpad, scaled by the row table"),
    Function.ROW_REQUANTISE: ("none", "int8 to the scratchpad, scaled by the row table"),
    Function.RESIDUAL: ("first, second; operand", "int16 back into the accumulators; row table: mean, 1/sqrt(V)"),
    Function.LAYER_NORM: ("second", "int8 to the scratchpad, normalised by the row table"),
    Function.LOAD_ROWS: ("row records", "row table: multiplier and shift of each row"),
    Function.LOAD_CURVE: ("chords", "the curve of ACTIVATION and GATED"),
    Function.ACTIVATION: ("first, second", "int8 to the scratchpad, as GELU with the loaded curve"),
    Function.GATED: ("first, second; operand", "int8 to the scratchpad: the loaded curve times the operand"),
    Function.RAW: ("none", "int32 to the scratchpad: the accumulators as they are"),
}

@dataclass(frozen=True)
class Field:
    """One field of a format: name, width in bits, whether it is signed, meaning, and lowest bit."""

    name: str
    width: int
    doc: str
    signed: bool = False
    offset: int = 0


class Format:
    """A packed record: an instruction, or a parameter record that the vector engine reads.

    Parameters
    ----------
    name, doc
        For documents and headers.
    fields
        In the order of their bits, from bit 0, without gaps.
    size
        Bytes of the record; the fields may take fewer.
    """

    def __init__(self, name: str, doc: str, fields: tuple[Field, ...], size: int):
        self.name = name
        self.doc = doc
        self.size = size
        placed, offset = [], 0
        for field in fields:
            placed.append(Field(field.name, field.width, field.doc, field.signed, offset))
            offset += field.width
        if offset > 8 * size:
            raise ValueError(f"the fields of {name} must fit {8 * size} bits, not {offset}")
        self.fields = tuple(placed)

    @cached_property
    def layout(self) -> data.StructLayout:
        """The same record for the hardware; the bits above the last field are not part of it."""
        return data.StructLayout({field.name: Shape(field.width, field.signed) for field in self.fields})

    def encode(self, **values: int) -> bytes:
        """Pack ``values`` (fields not given are zero) into ``size`` little-endian bytes.

        Raises
        ------
        ValueError
            When a name is no field, or a value does not fit its field.
        """
        word = 0
        for field in self.fields:
            value = int(values.pop(field.name, 0))
            low = -(1 << field.width - 1) if field.signed else 0
            high = low + (1 << field.width) - 1
            if not low <= value <= high:
                raise ValueError(f"{self.name}.{field.name} must be from {low} to {high}, not {value}")
            word |= (value & ((1 << field.width) - 1)) << field.offset
        if values:
            raise ValueError(f"{self.name} has no field {next(iter(values))!r}")
        return word.to_bytes(self.size, "little")

    def decode(self, record: bytes) -> dict[str, int]:
        """Unpack the first ``size`` bytes of ``record``: the inverse of :meth:`encode`."""
        word = int.from_bytes(record[: self.size], "little")
        values = {}
        for field in self.fields:
            value = word >> field.offset & ((1 << field.width) - 1)
            if field.signed and value >> field.width - 1:
                value -= 1 << field.width
            values[field.name] = value
        return values


_HEADER = (
    Field("opcode", 8, "what to do"),
    Field("function", 8, "the vector function, for VECTOR; else 0"),
    Field("wait", SEMAPHORES, "semaphores to take before the start, one bit each"),
    Field("signal", SEMAPHORES, "semaphores to give after the end, one bit each"),
    Field("tag", 16, "free for the compiler, ignored by the hardware"),
)

END = Format("end", "The program is over once every engine has finished.", _HEADER, INSTRUCTION_BYTES)

TRANSFER = Format(
    "transfer",
    """LOAD (DRAM to scratchpad) and STORE (scratchpad to DRAM): ``count`` rows of ``words`` words.

    Row ``i`` is contiguous from DRAM byte ``dram_address + i * dram_stride`` and from scratchpad word
    ``scratchpad + i * scratchpad_stride``. DRAM addresses and strides are multiples of the bus width in
    bytes. A store writes only the bytes of its words.""",
    (
        *_HEADER,
        Field("dram_address", 48, "DRAM byte address of row 0"),
        Field("count", 16, "rows, at least 1"),
        Field("dram_stride", 32, "bytes from one row to the next in DRAM"),
        Field("words", 16, "scratchpad words in a row, at least 1"),
        Field("scratchpad", 16, "scratchpad word of row 0"),
        Field("scratchpad_stride", 16, "words from one row to the next in the scratchpad"),
    ),
    INSTRUCTION_BYTES,
)

MATMUL = Format(
    "matmul",
    """``C[m, n] (+)= sum_k A[m, k] * B[n, k]`` for ``m`` rows, ``n_tiles * cols`` columns and
    ``k_tiles * rows`` reduction elements.

    The A word of (m, k tile) lies at ``a + m * a_stride + k tile`` (of a plane of a wide tensor, which ``a_wide``
    tells, at ``a + m * a_stride + 2 * k tile``), the B word of (n, k tile) at
    ``b + n * b_stride + k tile``, the accumulator word of (m, n tile) at
    ``accumulator + n tile * accumulator_stride + m``, all in one half.

    A wide tensor has 16 bits an element: of each ``rows`` columns a word of lower bytes (uint8), and then one of upper
    bytes (int8). As A it takes two products: of its upper plane, and then of its lower one with
    ``scale_accumulators``.""",
    (
        *_HEADER,
        Field("a", 16, "scratchpad word of A[0, 0]"),
        Field("a_stride", 16, "words from one row of A to the next"),
        Field("b", 16, "scratchpad word of B[0, 0]"),
        Field("b_stride", 16, "words from one row of B to the next"),
        Field("accumulator", 16, "accumulator word of C[0, 0]"),
        Field("accumulator_stride", 16, "words from one column tile to the next"),
        Field("m", 16, "rows of A, at least 1"),
        Field("n_tiles", 16, "column tiles, at least 1"),
        Field("k_tiles", 16, "reduction tiles, at least 1"),
        Field("accumulate", 1, "1: add to the accumulators; 0: overwrite them"),
        Field("a_unsigned", 1, "1: A is uint8; 0: int8. B is always int8"),
        Field("a_wide", 1, "1: A is a plane of a wide tensor: its k tiles lie two words apart"),
        Field("scale_accumulators", 1, "1, with `accumulate`: add to 256 times the accumulators"),
    ),
    INSTRUCTION_BYTES,
)

VECTOR = Format(
    "vector",
    """Apply ``function`` to ``m`` rows of ``groups`` groups of ``lanes`` columns.

    Column group ``g`` of row ``m`` is slice ``g % (cols / lanes)`` of accumulator word
    ``accumulator + (g // (cols / lanes)) * accumulator_stride + m``, all in one half. Its ``lanes`` result
    bytes go to byte ``g * lanes`` of the scratchpad row that starts at word
    ``destination + m * destination_stride``; the operand of RESIDUAL and GATED is read from the same place of the row
    at ``operand + m * operand_stride``. The parameters of group ``g`` start at word ``parameters + g * w``, where
    ``w`` is ``parameter_words`` for each record that the function uses (first, then second), or one word of mask
    bytes (0: masked). LOAD_ROWS reads ``m`` row records, contiguous from ``parameters``. Parameters are fetched
    ahead: their words must hold what LOAD brought, not the result of a VECTOR instruction. Row ``m`` uses entry
    ``row + m`` of the row table.

    A row of N columns takes ``ceil(N / rows)`` words. Of a wide result or operand, which has 16 bits an element in the
    layout of wide tensors (see MATMUL), it takes twice as many: of each ``rows`` columns a word of lower bytes, and
    then one of upper bytes. RAW writes four words for each ``rows`` columns: of the lowest bytes first. Strides count
    words in any case. The words of GATED's operand must not be those of its result.

    With ``causal``, row ``m`` sees the columns up to ``m + operand`` alone, counted from 0 in each instruction;
    ``operand`` is then a signed number.

    LOAD_CURVE reads CURVE_PIECES chords, contiguous from ``parameters``, for pieces of ``2**shift`` steps; the curve
    holds for ACTIVATION and GATED until the next one, and is undefined after a reset.""",
    (
        *_HEADER,
        Field("accumulator", 16, "accumulator word of row 0, group 0"),
        Field("accumulator_stride", 16, "words from one column tile to the next"),
        Field("destination", 16, "scratchpad word of row 0 of the result"),
        Field("destination_stride", 16, "words from one result row to the next"),
        Field("operand", 16, "RESIDUAL, GATED: scratchpad word of row 0 of the second operand; `causal`: the last "
              "column that row 0 sees, signed"),
        Field("operand_stride", 16, "words from one row of the operand to the next"),
        Field("parameters", 16, "scratchpad word of the first parameter record"),
        Field("row", 16, "row table entry of row 0"),
        Field("m", 16, "rows, from 1 to row_entries - row"),
        Field("groups", 16, "groups of `lanes` columns, at least 1; ignored by LOAD_ROWS and LOAD_CURVE"),
        Field("multiplier", 16, "EXPONENTIAL: scale of the scores; RESIDUAL: 256/N as a mantissa"),
        Field("shift", 6, "right shift that belongs to `multiplier`, at least 1; LOAD_CURVE: log2 of a piece, 3 to 7"),
        Field("continues", 1, "ROW_MAXIMUM, EXPONENTIAL, RESIDUAL: 1: go on from the instruction before"),
        Field("unfinished", 1, "the same: 1: more columns follow; the row table is not written yet"),
        Field("causal", 1, "ROW_MAXIMUM, EXPONENTIAL: 1: columns beyond `operand` plus the row are masked, too"),
        Field("wide_result", 1, "1: 16 bits an element to the scratchpad; of EXPONENTIAL 12, in two unsigned planes"),
        Field("wide_operand", 1, "RESIDUAL, GATED: 1: the operand has 16 bits an element"),
    ),
    INSTRUCTION_BYTES,
)

FORMATS = {Opcode.END: END, Opcode.LOAD: TRANSFER, Opcode.STORE: TRANSFER,
           Opcode.MATMUL: MATMUL, Opcode.VECTOR: VECTOR}

FIRST_PARAMETERS = Format(
    "first_parameters",
    "What a column's first requantisation needs: ``((x + bias) * multiplier >> shift) + zero_point``.",
    (
        Field("bias", 32, "added to the accumulator", signed=True),
        Field("multiplier", 16, "unsigned mantissa"),
        Field("shift", 8, "right shift, from 1 to 47"),
        Field("zero_point", 8, "added after the shift; REQUANTISE alone uses it", signed=True),
    ),
    8,
)

SECOND_PARAMETERS = Format(
    "second_parameters",
    "What a column's second requantisation needs: ``(x * multiplier + offset >> shift) + zero_point``; of GATED the "
    "operand is the multiplier.",
    (
        Field("offset", 32, "added to the product", signed=True),
        Field("multiplier", 16, "signed mantissa; ignored by GATED", signed=True),
        Field("shift", 8, "right shift, from 1 to 31"),
        Field("zero_point", 8, "added after the shift; not in RESIDUAL", signed=True),
    ),
    8,
)

ROW_RECORD = Format(
    "row_record",
    "A row's requantisation, as LOAD_ROWS reads it: ``x * multiplier >> shift``.",
    (
        Field("multiplier", 16, "unsigned mantissa"),
        Field("shift", 8, "right shift, from 1 to 47"),
    ),
    4,
)

#: Chords of a curve.
CURVE_PIECES = 32

CHORD = Format(
    "chord",
    "A piece of the curve, as LOAD_CURVE reads it: ``base + slope * step``, 16 fraction bits.",
    (
        Field("base", 16, "value at the start of the piece, below 2**15"),
        Field("slope", 16, "rise per step of 1/256, from -256 to 255", signed=True),
    ),
    4,
)

#: The records that the vector engine reads.
RECORDS = (FIRST_PARAMETERS, SECOND_PARAMETERS, ROW_RECORD, CHORD)
