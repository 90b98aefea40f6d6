"""What each vector function uses: the one table from which the vector engine's control signals are decoded."""

from collections.abc import Mapping
from dataclasses import dataclass

from .isa import Function

__all__ = ["TRAITS", "Traits", "any_of", "operand_words", "result_words"]


@dataclass(frozen=True)
class Traits:
    """The parts of the vector pipeline that a function uses.

    Attributes
    ----------
    first, second, mask
        Which parameters it reads.
    row_scaled
        The first scale takes multiplier and shift from the row table.
    second_scale
        The result of the second scale is (part of) its result: of REQUANTISE the zero point.
    operand
        It reads the second operand, which may be a result: it starts when all before it have been written.
    writes_scratchpad
        It writes bytes of each column to the scratchpad.
    statistics
        It makes entries of the row table.
    reads_rows
        It reads the row table: it starts when what instructions before it leave there has been written.
    scalar
        It has a scalar, which has one place: it starts when all before it have finished, their rows included.
    """

    first: bool = False
    second: bool = False
    mask: bool = False
    row_scaled: bool = False
    second_scale: bool = False
    operand: bool = False
    writes_scratchpad: bool = True
    statistics: bool = False
    reads_rows: bool = False
    scalar: bool = False


TRAITS: dict[Function, Traits] = {
    Function.REQUANTISE: Traits(first=True, second_scale=True),
    Function.GELU: Traits(first=True, second=True, second_scale=True),
    Function.ROW_MAXIMUM: Traits(mask=True, writes_scratchpad=False, statistics=True),
    Function.EXPONENTIAL: Traits(mask=True, statistics=True, reads_rows=True, scalar=True),
    Function.ATTENTION_OUTPUT: Traits(second=True, row_scaled=True, second_scale=True, reads_rows=True),
    Function.ROW_REQUANTISE: Traits(row_scaled=True, reads_rows=True),
    Function.RESIDUAL: Traits(first=True, second=True, second_scale=True, operand=True, writes_scratchpad=False,
                              statistics=True, scalar=True),
    Function.LAYER_NORM: Traits(second=True, row_scaled=True, second_scale=True, reads_rows=True),
    Function.LOAD_ROWS: Traits(writes_scratchpad=False),
    Function.LOAD_CURVE: Traits(writes_scratchpad=False),
    Function.ACTIVATION: Traits(first=True, second=True, second_scale=True),
    Function.GATED: Traits(first=True, second=True, second_scale=True, operand=True),
    Function.RAW: Traits(),
}


def result_words(function: Function, fields: Mapping[str, int]) -> int:
    """Scratchpad words that a VECTOR instruction with these ``fields`` writes for each ``rows`` columns of a row."""
    if function is Function.RAW:
        return 4
    return (2 if fields.get("wide_result") else 1) if TRAITS[function].writes_scratchpad else 0


def operand_words(function: Function, fields: Mapping[str, int]) -> int:
    """Scratchpad words of the second operand that it reads for each ``rows`` columns of a row."""
    return (2 if fields.get("wide_operand") else 1) if TRAITS[function].operand else 0


def any_of(function, trait: str):
    """An Amaranth expression: high when ``function`` (a signal of 8 bits or fewer) has ``trait``."""
    codes = [code.value for code, traits in TRAITS.items() if getattr(traits, trait)]
    return function.matches(*codes)
