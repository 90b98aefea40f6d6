"""The square of a number, of half as many gates as the product of two numbers.

Of the products of two bits each stands twice in a square: once, one place higher, is enough. As with
:mod:`~celosia.hdl.parts.sum_of_products`, the tree of adders is written out for synthesis, and simulators get the
formula.
"""

from amaranth import Instance, Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .sum_of_products import Bit, adder_tree

__all__ = ["Square"]


class Square(wiring.Component):
    """``result = value * value``. Combinational.

    Parameters
    ----------
    width : int
        Bits of the value, from 2.

    Members
    -------
    value : in, signed ``width``
    result : out, unsigned ``2 * width - 1``
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({"value": In(signed(width)), "result": Out(2 * width - 1)})

    def elaborate(self, platform):
        m = Module()
        if platform is None:
            m.d.comb += self.result.eq(self.value * self.value)
            return m
        name = f"celosia_square_gates_{self.width}"
        platform.add_file(f"{name}.v", _verilog(name, self.width))
        m.submodules.gates = Instance(name, i_value=self.value, o_result=self.result)
        return m


def _verilog(name: str, width: int) -> str:
    """Its module. With ``value = u - s * 2**(width - 1)``, the square is that of ``u``, and where ``s`` is set
    ``2**(2 * width - 2) - 2**width * u`` more."""
    top, columns = width - 1, 2 * width - 1
    bits: list[list[Bit]] = [[] for _ in range(columns)]
    wires = []

    def add(place, expression, arrival):
        wires.append(f"wire p{len(wires)} = {expression};")
        bits[place].append(Bit(arrival, f"p{len(wires) - 1}"))

    for i in range(top):
        bits[2 * i].append(Bit(0, f"value[{i}]"))
        for j in range(i + 1, top):
            add(i + j + 1, f"value[{i}] & value[{j}]", 1.5)
        add(width + i, f"value[{top}] & ~value[{i}]", 2)  # minus u is ~u + 1 - 2**top
    for place in (width, 2 * top):
        bits[place].append(Bit(0, f"value[{top}]"))
    bits[1].append(Bit(0, "1'b0"))
    body = "\n  ".join([*wires, *adder_tree(bits)])
    return f"""\
// The square of a signed number.
module {name} (
  input wire signed [{width - 1}:0] value,
  output wire [{columns - 1}:0] result
);
`ifdef SYNTHESIS
  wire [{columns - 1}:0] sum;
  {body}
  assign result = sum;
`else
  wire signed [{columns}:0] whole = value * value;
  assign result = whole[{columns - 1}:0];
`endif
endmodule
"""
