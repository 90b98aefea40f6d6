"""What a gate, a flip-flop and a bit of memory cost: the weights that areas and delays are counted with.

The unit of area is a NAND of two inputs, e; that of delay is what it takes. The weights are round numbers, good for
comparing two netlists, not for square millimetres: wires and sizes of gates are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FLIP_FLOP", "FLIP_FLOP_WITH_ENABLE", "GATES", "LATCH", "OUTPUT", "SMALL_MEMORY_BIT", "Gate", "genlib"]


@dataclass(frozen=True)
class Gate:
    """A gate with the output ``OUTPUT``: what it computes, in ABC's notation; its area; the delay from any input."""

    function: str
    area: float
    delay: float


#: Port of a gate's output.
OUTPUT = "Y"

GATES = {
    "ZERO": Gate("CONST0", 0, 0),
    "ONE": Gate("CONST1", 0, 0),
    "BUF": Gate("A", 0, 0),
    "INV": Gate("!A", 0.5, 1),
    "NAND": Gate("!(A*B)", 1, 1),
    "NOR": Gate("!(A+B)", 1, 1),
    "AND": Gate("A*B", 1.5, 1.5),
    "OR": Gate("A+B", 1.5, 1.5),
    "XOR": Gate("(A*!B)+(!A*B)", 2.5, 2),
    "XNOR": Gate("(A*B)+(!A*!B)", 2.5, 2),
    "MUX": Gate("(A*!S)+(B*S)", 2.5, 2),
}
#: Areas of what holds a bit. A flip-flop with an enable or a synchronous reset is one with a gate before it.
FLIP_FLOP, FLIP_FLOP_WITH_ENABLE, LATCH = 5.5, 7.0, 4.0
#: Area of a bit of a memory of few words, which is made of latches and multiplexers.
SMALL_MEMORY_BIT = 7.4


def genlib(gates: Mapping[str, Gate] = GATES) -> str:
    """The gates as the text of a library that ABC maps to."""
    return "".join(
        f"GATE {name} {gate.area:g} {OUTPUT}={gate.function};"
        + ("" if gate.function.startswith("CONST") else f" PIN * UNKNOWN 1 999 {gate.delay:g} 0 {gate.delay:g} 0")
        + "\n" for name, gate in gates.items())
