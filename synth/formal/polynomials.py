"""Proof by algebra that gates compute a sum.

Sums of products are beyond what a solver of satisfiability can compare with their formula. But the output of a gate is
a polynomial in the gate's inputs, each 0 or 1, and a word is the sum of its bits, each times its place value. Gate by
gate, from the outputs back to the inputs, polynomials take the place of outputs, until only bits of the inputs are
left. The polynomial of a function of bits is unique: the gates are right if, and only if, it is the one that is wanted.
On the way through a tree of adders it stays small: what is not linear in an adder's sum cancels out with its carry.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ..tools import SynthesisError, run_tool

__all__ = ["Gates", "Polynomial", "TooManyTermsError", "product", "total", "word"]

#: What each product of bits counts, by the numbers of its bits; no bits are the product 1.
Polynomial = dict[frozenset[int], int]

_SCRIPT = """read_verilog -sv design.v
hierarchy -check -top {top}
proc; flatten; simplemap; opt_clean
write_json netlist.json
"""
_ONE: frozenset[int] = frozenset()
#: Terms that a sum of products never comes near on the way, however many rows it has.
_MOST_TERMS = 50_000


class TooManyTermsError(Exception):
    """The polynomial has grown too long: the gates are no adders, or add bits of different places."""


def total(*polynomials: Polynomial) -> Polynomial:
    """Their sum."""
    terms: Counter[frozenset[int]] = Counter()
    for polynomial in polynomials:
        terms.update(polynomial)
    return {term: factor for term, factor in terms.items() if factor}


def product(*polynomials: Polynomial) -> Polynomial:
    """Their product; the square of a bit is the bit."""
    result: Polynomial = {_ONE: 1}
    for polynomial in polynomials:
        terms: Counter[frozenset[int]] = Counter()
        for left, left_factor in result.items():
            for right, right_factor in polynomial.items():
                terms[left | right] += left_factor * right_factor
        result = {term: factor for term, factor in terms.items() if factor}
    return result


def word(bits: Sequence[int], *, signed: bool = False) -> Polynomial:
    """The number that ``bits`` are, the lowest first."""
    places = [1 << index for index in range(len(bits))]
    if signed:
        places[-1] *= -1
    return total(*({frozenset({bit}): place} for bit, place in zip(bits, places, strict=True)))


class Gates:
    """A combinational design of single gates.

    Parameters
    ----------
    verilog : str
        Synthesis' side of it is taken (Yosys defines ``SYNTHESIS``).
    top : str
    folder : Path
        For what Yosys reads and writes; it must exist.

    Attributes
    ----------
    ports : dict of str to list of int
        The numbers of the bits of each port, the lowest first.

    Raises
    ------
    SynthesisError
        When Yosys refuses the design, or something in it is no gate.
    """

    def __init__(self, verilog: str, top: str, folder: Path):
        (folder / "design.v").write_text(verilog)
        (folder / "gates.ys").write_text(_SCRIPT.format(top=top))
        run_tool("yosys", ["-q", "-s", "gates.ys"], folder)
        module: dict[str, Any] = json.loads((folder / "netlist.json").read_text())["modules"][top]
        self.ports: dict[str, list[int]] = {name: port["bits"] for name, port in module["ports"].items()}
        self._gates = dict(_gate(cell) for cell in module["cells"].values() if cell["type"] != "$scopeinfo")

    def value(self, bits: Sequence[int | str]) -> Polynomial:
        """The number modulo ``2**len(bits)`` that ``bits`` are, the lowest first: a polynomial in bits of the inputs,
        with factors from 0 to ``2**len(bits) - 1``.

        Raises
        ------
        TooManyTermsError
            When there is no end in sight.
        SynthesisError
            When a bit has no value.
        """
        result: Polynomial = {}
        holders: dict[int, set[frozenset[int]]] = {}  # terms in which a bit is

        def add(term: frozenset[int], factor: int) -> None:
            factor = (result.pop(term, 0) + factor) % (1 << len(bits))
            if factor:
                result[term] = factor
            for bit in term:
                terms = holders.setdefault(bit, set())
                if factor:
                    terms.add(term)
                else:
                    terms.discard(term)

        for index, bit in enumerate(bits):
            for term, factor in _bit(bit).items():
                add(term, factor << index)
        inputs = {bit: set().union(*polynomial) for bit, polynomial in self._gates.items()}
        for bit in reversed([*TopologicalSorter(inputs).static_order()]):
            if bit in self._gates:
                if len(result) > _MOST_TERMS:
                    raise TooManyTermsError
                for term in [*holders.get(bit, ())]:
                    factor = result[term]
                    add(term, -factor)
                    for part, part_factor in self._gates[bit].items():
                        add(term - {bit} | part, factor * part_factor)
        return result


def _bit(bit: int | str) -> Polynomial:
    """A bit as Yosys names it: a number, "0" or "1"."""
    if isinstance(bit, int):
        return {frozenset({bit}): 1}
    if bit not in ("0", "1"):
        raise SynthesisError(f"every bit must be defined, not {bit}")
    return {_ONE: 1} if bit == "1" else {}


def _gate(cell: Mapping[str, Any]) -> tuple[int, Polynomial]:
    """The bit at the output of a gate, and what it is."""
    pins = {pin: bits[0] for pin, bits in cell["connections"].items()}
    a, b, select = (_bit(pins.get(pin, "0")) for pin in "ABS")
    both = product(a, b)
    match cell["type"]:
        case "$_NOT_":
            function = total({_ONE: 1}, _times(-1, a))
        case "$_AND_":
            function = both
        case "$_OR_":
            function = total(a, b, _times(-1, both))
        case "$_XOR_":
            function = total(a, b, _times(-2, both))
        case "$_MUX_":
            function = total(a, product(select, total(b, _times(-1, a))))
        case other:
            raise SynthesisError(f"the design must consist of gates, not of {other}")
    return pins["Y"], function


def _times(factor: int, polynomial: Polynomial) -> Polynomial:
    return {term: factor * count for term, count in polynomial.items()}
