"""The warnings of Verilator that lie in the nature of Amaranth's Verilog, and why they find no fault."""

from dataclasses import dataclass

__all__ = ["MODEL_WAIVERS", "WAIVERS", "Waiver"]


@dataclass(frozen=True)
class Waiver:
    """A warning of Verilator that is waived.

    Parameters
    ----------
    rule : str
        Its name, as in ``-Wno-<rule>``.
    reason : str
        Why it finds no fault.
    style : bool
        Whether Verilator only gives it with ``-Wall``.
    """

    rule: str
    reason: str
    style: bool = False


#: Every other warning stops a build, and fails the tests.
WAIVERS = (
    Waiver("WIDTHEXPAND", "Amaranth leaves it to Verilog's rules to extend an operand, where they do what it means."),
    Waiver("WIDTHTRUNC", "Amaranth leaves it to Verilog's rules to cut off upper bits in an assignment, and to take a "
                         "number for a condition."),
    Waiver("CASEINCOMPLETE", "Every signal has a value before the case that may change it, so none is a latch."),
    Waiver("SYMRSVDWORD", "The port called interrupt is spelt differently in Verilator's C++, and nowhere else."),
    Waiver("UNUSEDSIGNAL", "Amaranth connects all members of an interface, and names intermediate results; whatever "
                           "nobody reads is left out by synthesis.", style=True),
    Waiver("PROCASSINIT", "A register's declaration holds its value after power-up, as FPGAs and simulators honour "
                          "it; its clocked block assigns the values after that.", style=True),
    Waiver("DECLFILENAME", "All modules are in one file, so that there is one to add to a project.", style=True),
)

#: For the models of vendors' cells, which are called as the vendors call them.
MODEL_WAIVERS = (
    Waiver("DECLFILENAME", "The file holds the cells of a vendor, by their names.", style=True),
    Waiver("UNUSEDPARAM", "The model behaves as one setting of the cell does, and knows no other.", style=True),
    Waiver("UNUSEDSIGNAL", "The cell has more ports than that setting uses.", style=True),
)
