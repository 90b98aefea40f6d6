"""The accelerator behind four pins, for place and route: inside a chip its ports are no pins."""

from celosia.generators.formats.ports import Kind, interfaces_of
from celosia.generators.verilog import TOP
from celosia.hdl.config import AcceleratorConfig

__all__ = ["PINS_TOP", "few_pins"]

#: Name of the module that :func:`few_pins` writes.
PINS_TOP = "pins"

_MODULE = """\
// Every input of the accelerator comes from a register of a shift chain; every output goes to a register, and with
// three others at a time from register to register to a pin.
module {top}(input wire clk, input wire rst, input wire in, output wire out);
  reg reset;
  reg [{inputs}-1:0] inputs;
  wire [{outputs}-1:0] now;
{levels}
  always @(posedge clk) begin
    reset <= rst;
    inputs <= {{inputs, in}};
{steps}
  end
  assign out = level_{last};
  {design} design ({connections});
endmodule
"""


def few_pins(config: AcceleratorConfig) -> str:
    """Verilog of a module around the accelerator of ``config``. It adds a register to each input, and one and a third
    of another, with a LUT, to each output."""
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
    sizes = [widths["now"]]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 4))
    steps = ["level_0 <= now;", *(
        f"level_{level}[{index}] <= ^level_{level - 1}[{min(4 * index + 3, sizes[level - 1] - 1)}:{4 * index}];"
        for level in range(1, len(sizes)) for index in range(sizes[level]))]
    return _MODULE.format(
        top=PINS_TOP, design=TOP, inputs=widths["inputs"], outputs=widths["now"], last=len(sizes) - 1,
        levels="\n".join(f"  reg [{size - 1}:0] level_{level};" for level, size in enumerate(sizes)),
        steps="\n".join(f"    {step}" for step in steps), connections=", ".join(connections))
