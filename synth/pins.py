"""The accelerator behind five pins, for place and route: inside a chip its ports are no pins."""

from celosia.generators.ports import Kind, interfaces_of
from celosia.generators.verilog import TOP
from celosia.hdl.config import AcceleratorConfig

__all__ = ["PINS_TOP", "few_pins"]

#: Name of the module that :func:`few_pins` writes.
PINS_TOP = "pins"

_MODULE = """\
// Every input of the accelerator comes from a register of a shift chain, every output goes to a register, and from
// there to a shift chain: all paths run between registers.
module {top}(input clk, input rst, input in, input capture, output out);
  reg reset, capturing;
  reg [{inputs}-1:0] inputs;
  reg [{outputs}-1:0] outputs, before;
  wire [{outputs}-1:0] now;
  always @(posedge clk) begin
    reset <= rst;
    capturing <= capture;
    inputs <= {{inputs, in}};
    before <= now;
    outputs <= capturing ? before : outputs >> 1;
  end
  assign out = outputs[0];
  {design} design ({connections});
endmodule
"""


def few_pins(config: AcceleratorConfig) -> str:
    """Verilog of a module around the accelerator of ``config``. It adds a register to each input, and two
    and a LUT to each output."""
    connections, widths = [], {"inputs": 0, "now": 0}
    for interface in interfaces_of(config):
        for port in interface.ports:
            if interface.kind is Kind.CLOCK:
                connections.append(f".{port.name}(clk)")
            elif interface.kind is Kind.RESET:
                connections.append(f".{port.name}(reset)")
            else:
                chain = "now" if port.output else "inputs"
                low = widths[chain]
                widths[chain] += port.width
                connections.append(f".{port.name}({chain}[{widths[chain] - 1}:{low}])")
    return _MODULE.format(top=PINS_TOP, design=TOP, inputs=widths["inputs"], outputs=widths["now"],
                          connections=", ".join(connections))
