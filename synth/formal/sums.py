"""Sums of products, and squares: the gates that synthesis is given make them, for all operands."""

from dataclasses import dataclass
from pathlib import Path

from celosia.generators.verilog import convert
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.parts.square import Square
from celosia.hdl.parts.sum_of_products import SIGN_OFFSET, SumOfProducts, correction_offset

from .polynomials import Gates, Polynomial, TooManyTermsError, product, total, word
from .prover import Outcome

__all__ = ["SQUARE_FAULTS", "SQUARE_WIDTH", "SUMS", "SUM_FAULTS", "SumFault", "prove_square", "prove_sums"]

#: What is proved: the first rows of an array, others, and many rows.
SUMS = {"first rows": (4, 2, 20, 11), "rows": (4, 2, 20, 0), "eight rows": (8, 1, 21, 13)}


@dataclass(frozen=True)
class SumFault:
    """``what`` is wrong: in the Verilog, ``new`` stands in place of the first ``old``."""

    what: str
    old: str
    new: str


SUM_FAULTS = (
    SumFault("a digit that leaves the bit below out", " ^ activations[1]", " ^ 1'b0"),
    SumFault("a digit that is three", " & ~(activations[0] ^ 1'b0)", ""),
    SumFault("a digit of another activation", "negative[4] = activations[9]", "negative[4] = activations[1]"),
    SumFault("a weight without its sign", "{w0[7], w0}", "{1'b0, w0}"),
    SumFault("a sign that is not inverted", "{~negative[2]", "{negative[2]"),
    SumFault("a carry of the wrong bit", "c5 = x5 ? ", "c5 = ~x5 ? "),
    SumFault("a carry that is lost", "c9 = x9 ? ", "c9 = 1'b0 ? "),
    SumFault("another column's weights", ".weights(weights[32 +: 32])", ".weights(weights[0 +: 32])"),
    SumFault("a correction in every cycle", "{11{corrected}}", "{11{1'b1}}"),
)

#: Of a square in a vector lane.
SQUARE_WIDTH = 16
SQUARE_FAULTS = (
    SumFault("a product that stands twice", "value[0] & value[1];", "value[0] & value[2];"),
    SumFault("a sign that adds", "value[15] & ~value[3];", "value[15] & value[3];"),
    SumFault("a carry that is lost", "c9 = x9 ? ", "c9 = 1'b0 ? "),
)


def prove_sums(rows: int, columns: int, width: int, correction: int, folder: Path,
               fault: SumFault | None = None) -> Outcome:
    """Prove that the gates of a :class:`~celosia.hdl.parts.sum_of_products.SumOfProducts` make its sums.

    Parameters
    ----------
    rows, columns, width, correction : int
        As for the component.
    folder : Path
        For what Yosys reads and writes; it must exist.
    fault : SumFault, optional
        To be planted.

    Raises
    ------
    ValueError
        When the fault's code does not stand in the Verilog.
    SynthesisError
        When Yosys is missing, or the sums are made of something else than gates.
    """
    gates = _gates(SumOfProducts(rows, columns, width, correction), folder, fault)
    for column in range(columns):
        try:
            made = gates.value(_part(gates, "sums", column, width))
        except TooManyTermsError:
            return Outcome(False, f"column {column} is no tree of adders")
        wanted = {term: factor % (1 << width) for term, factor in _sum(gates, rows, width, correction, column).items()}
        if made != {term: factor for term, factor in wanted.items() if factor}:
            return Outcome(False, f"column {column} is another function")
    return Outcome(True, "")


def prove_square(width: int, folder: Path, fault: SumFault | None = None) -> Outcome:
    """The same of a :class:`~celosia.hdl.parts.square.Square` of ``width`` bits."""
    gates = _gates(Square(width), folder, fault)
    try:
        made = gates.value(gates.ports["result"])
    except TooManyTermsError:
        return Outcome(False, "the square is no tree of adders")
    value = word(gates.ports["value"], signed=True)
    modulus = 1 << 2 * width - 1
    wanted = {term: factor % modulus for term, factor in product(value, value).items() if factor % modulus}
    return Outcome(made == wanted, "" if made == wanted else "the square is another function")


def _gates(component, folder: Path, fault: SumFault | None) -> Gates:
    verilog = convert(component, name="top", ports=flat_ports(component))
    if fault is not None:
        if fault.old not in verilog:
            raise ValueError(f"the Verilog must have {fault.old!r} in it")
        verilog = verilog.replace(fault.old, fault.new, 1)
    return Gates(verilog, "top", folder)


def _part(gates: Gates, port: str, index: int, bits: int) -> list[int]:
    return gates.ports[port][bits * index:bits * (index + 1)]


def _sum(gates: Gates, rows: int, width: int, correction: int, column: int) -> Polynomial:
    """What the sum of a column is meant to be, as the component's docstring says it."""
    terms = [word(_part(gates, "above", column, width), signed=True), _number(rows * SIGN_OFFSET)]
    for row in range(rows):
        activation = _part(gates, "activations", row, 8)
        weight = _part(gates, "weights", rows * column + row, 8)
        terms.append(product(word(activation, signed=True), word(weight, signed=True)))
        # Each digit whose highest bit is set lacks one in its lowest place.
        terms += [product(_number(-(1 << 2 * digit)), word([activation[2 * digit + 1]])) for digit in range(4)]
    if correction:
        weights = word(_part(gates, "corrections", column, correction), signed=True)
        terms += [product(_number(128), word(gates.ports["corrected"]), weights),
                  _number(correction_offset(correction))]
    return total(*terms)


def _number(value: int) -> Polynomial:
    return {frozenset(): value}
