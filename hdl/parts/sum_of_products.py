"""Several products, added to a sum in one go: one carry-save tree, one adder.

Of ``above + a * w + b * x + ...`` synthesis tools that are made for datapaths build one tree. Yosys gives each product
an adder of its own, so that here the tree is written out for synthesis; simulators get the formula, which is a test's
other side.

An activation is recoded into four Booth digits from -2 to 2. A digit's multiple of the weight is the weight or its
double, inverted where the digit is negative, and what makes of an inverted number the negative one, a one in its lowest
place, is the same for all weights: :func:`offset` is what all products of an activation lack, whatever the weight, and
whoever feeds a column of sums makes it good once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from amaranth import C, Cat, Instance, Module, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SIGN_OFFSET", "Bit", "SumOfProducts", "adder_tree", "correction_offset", "offset"]

#: Upper sign bits of the four multiples are added inverted: so much too large is each product.
SIGN_OFFSET = sum(256 << 2 * digit for digit in range(4))
#: Bits that a correction is shifted to the left: it counts 128 times.
_CORRECTION_SHIFT = 7
#: Delays of a NAND from an activation to a multiple of a weight: the tree takes what comes first first.
_MULTIPLE_DELAY = 8


def offset(activation) -> Value:
    """What the products of ``activation``, signed 8 bits, lack besides ``SIGN_OFFSET``; unsigned 7 bits."""
    return Cat(bit for digit in range(4) for bit in (activation[2 * digit + 1], C(0, 1)))[:7]


def correction_offset(bits: int) -> int:
    """By how much a correction of ``bits`` bits makes a sum too large: its sign is added inverted too."""
    return 1 << bits - 1 + _CORRECTION_SHIFT


class SumOfProducts(wiring.Component):
    """The sums of ``columns`` columns, which share their activations. Combinational.

    Parameters
    ----------
    rows, columns : int
    width : int
        Bits of a sum.
    correction : int
        Bits of a correction; 0 for none.

    Members
    -------
    activations : in, ``rows`` x signed 8 bits
    weights : in, ``columns`` x ``rows`` x signed 8 bits
    above : in, ``columns`` x signed ``width``
    corrected : in, 1 bit
        With a correction only, as ``corrections``.
    corrections : in, ``columns`` x signed ``correction``
        Count 128 times where ``corrected``.
    sums : out, ``columns`` x signed ``width``
        Modulo ``2**width``: ``above``, plus for each row ``activation * weight + SIGN_OFFSET - offset(activation)``;
        with a correction, plus ``128 * correction * corrected + correction_offset``.
    """

    def __init__(self, rows: int, columns: int, width: int, correction: int = 0):
        self.rows, self.columns, self.width, self.correction = rows, columns, width, correction
        sums = data.ArrayLayout(signed(width), columns)
        super().__init__({
            "activations": In(data.ArrayLayout(signed(8), rows)),
            "weights": In(data.ArrayLayout(data.ArrayLayout(signed(8), rows), columns)),
            "above": In(sums),
            **({"corrected": In(1), "corrections": In(data.ArrayLayout(signed(correction), columns))}
               if correction else {}),
            "sums": Out(sums),
        })

    def elaborate(self, platform):
        m = Module()
        rows, columns = range(self.rows), range(self.columns)
        if platform is None:
            common = self.rows * SIGN_OFFSET - sum(offset(self.activations[r]) for r in rows)
            if self.correction:
                common = common + correction_offset(self.correction)
            for c in columns:
                total = self.above[c] + common + sum(self.activations[r] * self.weights[c][r] for r in rows)
                if self.correction:
                    total = total + ((self.corrections[c] & self.corrected.replicate(self.correction).as_signed())
                                     << _CORRECTION_SHIFT)
                m.d.comb += self.sums[c].eq(total)
            return m
        name = "_".join(["celosia_sums", *map(str, (self.rows, self.columns, self.width, self.correction))])
        platform.add_file(f"{name}.v", _verilog(name, self.rows, self.columns, self.width, self.correction))
        corrections = {"i_corrected": self.corrected, "i_corrections": self.corrections.as_value()} \
            if self.correction else {}
        m.submodules.sums = Instance(
            name, i_activations=self.activations.as_value(), i_weights=self.weights.as_value(),
            i_above=self.above.as_value(), o_sums=self.sums.as_value(), **corrections)
        return m


@dataclass(frozen=True, order=True)
class Bit:
    """A bit that is to be added, and when it is there, in delays of a NAND."""

    arrival: float
    name: str


def adder_tree(columns: list[list[Bit]]) -> Iterator[str]:
    """Verilog that adds up the bits of each column, of value 2**index, and assigns the wire ``sum``; those that are
    there first are added first."""
    heaps = [*columns, []]
    count = 0
    for index, heap in enumerate(heaps[:-1]):
        heapify(heap)
        while len(heap) > 1:
            a, b = heappop(heap), heappop(heap)
            if heap:
                c = heappop(heap)
                yield (f"wire x{count} = {a.name} ^ {b.name}, s{count} = x{count} ^ {c.name}, "
                       f"c{count} = x{count} ? {c.name} : {a.name};")
                half = max(a.arrival, b.arrival) + 2
                arrival = carried = max(half, c.arrival) + 2
            else:
                yield f"wire s{count} = {a.name} ^ {b.name}, c{count} = {a.name} & {b.name};"
                arrival, carried = b.arrival + 2, b.arrival + 1.5
            heappush(heap, Bit(arrival, f"s{count}"))
            heappush(heaps[index + 1], Bit(carried, f"c{count}"))
            count += 1
    yield f"assign sum = {{{', '.join(heap[0].name for heap in reversed(heaps[:-1]))}}};"


def _column(name: str, rows: int, width: int, correction: int) -> str:
    """The module of a column: multiples of its weights by digits that come from outside, and the tree."""
    columns: list[list[Bit]] = [[Bit(0, f"above[{index}]")] for index in range(width)]
    lines = []
    for row in range(rows):
        lines.append(f"wire [7:0] w{row} = weights[{8 * row + 7}:{8 * row}];")
        for digit in range(4):
            place = 4 * row + digit
            lines.append(
                f"wire [8:0] m{place} = (({{9{{one[{place}]}}}} & {{w{row}[7], w{row}}}) | ({{9{{two[{place}]}}}} & "
                f"{{w{row}, 1'b0}})) ^ {{~negative[{place}], {{8{{negative[{place}]}}}}}};")
            for bit in range(9):
                columns[2 * digit + bit].append(Bit(_MULTIPLE_DELAY, f"m{place}[{bit}]"))
    if correction:
        lines.append(f"wire [{correction - 1}:0] t = (correction & {{{correction}{{corrected}}}}) ^ "
                     f"{correction}'d{1 << correction - 1};")
        for bit in range(correction):
            columns[bit + _CORRECTION_SHIFT].append(Bit(2, f"t[{bit}]"))
    body = "\n  ".join([*lines, *adder_tree(columns)])
    more = f"\n  input wire corrected,\n  input wire [{correction - 1}:0] correction," if correction else ""
    return f"""\
module {name} (
  input wire [{4 * rows - 1}:0] one, two, negative,
  input wire [{8 * rows - 1}:0] weights,
  input wire [{width - 1}:0] above,{more}
  output wire [{width - 1}:0] sum
);
  {body}
endmodule
"""


def _verilog(name: str, rows: int, columns: int, width: int, correction: int) -> str:
    """The module of columns that share their activations: for synthesis their digits and trees, else the formula."""
    digits = []
    for row in range(rows):
        for digit in range(4):
            high, low = 8 * row + 2 * digit + 1, 8 * row + 2 * digit
            below = f"activations[{low - 1}]" if digit else "1'b0"
            digits += [
                f"assign one[{4 * row + digit}] = activations[{low}] ^ {below};",
                f"assign two[{4 * row + digit}] = (activations[{high}] ^ activations[{low}]) & "
                f"~(activations[{low}] ^ {below});",
                f"assign negative[{4 * row + digit}] = activations[{high}];",
            ]
    trees, formulas = [], []
    for column in range(columns):
        place = f"[{width * column} +: {width}]"
        part = f"corrections[{correction * column} +: {correction}]"
        more = f"\n    .corrected(corrected), .correction({part})," if correction else ""
        trees.append(f"""\
  {name}_column column_{column} (
    .one(one), .two(two), .negative(negative), .weights(weights[{8 * rows * column} +: {8 * rows}]),
    .above(above{place}),{more} .sum(sums{place}));""")
        products = "".join(f"\n    + $signed(activations[{8 * row} +: 8]) * "
                           f"$signed(weights[{8 * (rows * column + row)} +: 8])" for row in range(rows))
        corrected = f"\n    + (corrected ? $signed({part}) <<< {_CORRECTION_SHIFT} : $signed({width}'sd0))" \
            if correction else ""
        formulas.append(f"  assign sums{place} = $signed(above{place}) + common{products}{corrected};")
    constant = rows * SIGN_OFFSET + (correction_offset(correction) if correction else 0)
    offsets = (", 1'b0, ".join(f"activations[{8 * row + bit}]" for bit in (7, 5, 3, 1)) for row in range(rows))
    lacking = "".join(f"\n    - $signed({{{width - 7}'d0, {bits}}})" for bits in offsets)
    ports = f"\n  input wire corrected,\n  input wire [{correction * columns - 1}:0] corrections," if correction else ""
    new_line = "\n  "
    return f"""\
`ifdef SYNTHESIS
{_column(f"{name}_column", rows, width, correction)}`endif
// The sums of {columns} columns: each what is above and {rows} products, which share their activations.
module {name} (
  input wire [{8 * rows - 1}:0] activations,
  input wire [{8 * rows * columns - 1}:0] weights,
  input wire [{width * columns - 1}:0] above,{ports}
  output wire [{width * columns - 1}:0] sums
);
`ifdef SYNTHESIS
  wire [{4 * rows - 1}:0] one, two, negative;  // Booth digits
  {new_line.join(digits)}
{chr(10).join(trees)}
`else
  wire signed [{width - 1}:0] common = {width}'sd{constant}{lacking};
{chr(10).join(formulas)}
`endif
endmodule
"""
