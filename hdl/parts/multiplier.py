"""Multipliers: how each target is given one with its registers, and how two weights share that of a PE."""

from dataclasses import dataclass

from amaranth import C, Cat, ClockSignal, Instance, Module, Mux, Signal, signed

from ..config import AcceleratorConfig

__all__ = ["ECP5_MODEL", "PRODUCT_BITS", "add_products", "products_latency", "registered_product"]

#: Width of a product: 255 * -128 fits.
PRODUCT_BITS = 16


@dataclass(frozen=True)
class _Packing:
    """Two weights as one operand, ``(second << shift) + first``.

    The product is ``(a * second << shift) + a * first``. Where the two products overlap, in the ``overlap`` lowest
    bits of ``a * second``, these are made a second time, without the multiplier.
    """

    shift: int

    @property
    def overlap(self) -> int:
        return PRODUCT_BITS - self.shift

    @property
    def bits(self) -> int:
        return self.shift + 9


#: A multiplier of ECP5 takes 18 bits, one of Xilinx 25 or more.
_PACKINGS = {"generic": _Packing(16), "ecp5": _Packing(9), "xilinx": _Packing(16)}


def products_latency(config: AcceleratorConfig) -> int:
    """Cycles from an activation to its products, or to where they are added up in one go."""
    if config.fused:
        return 1
    if config.macs_per_multiplier == 1:
        return 2
    return 4 if _PACKINGS[config.target].overlap else 3


def add_products(m: Module, target: str, name: str, activation, held, weights, load):
    """Adds a multiplier to module ``m``; returns the products with one weight or two, ``products_latency`` cycles
    after their activation.

    Parameters
    ----------
    target : str
        As in the configuration.
    activation : signed 9 bits
    held : signed 9 bits
        The activation one cycle later.
    weights : list of signed 8 bits
        One for each product; become active with the activation of the cycle in which ``load`` is high.
    """
    if len(weights) == 1:
        return [_multiplier(m, target, name, activation, held, weights[0], load, PRODUCT_BITS)]
    packing = _PACKINGS[target]
    shift, overlap = packing.shift, packing.overlap
    packed = Signal(signed(packing.bits), name=f"packed_{name}")
    m.d.comb += packed.eq((weights[1] << shift) + weights[0])
    both = _multiplier(m, target, name, activation, held, packed, load, shift + PRODUCT_BITS)

    def register(value, shape, part):
        signal = Signal(shape, name=f"{part}_{name}", reset_less=True)
        m.d.sync += signal.eq(value)
        return signal

    low = C(0, 1)
    if overlap:
        # Partial products of the lowest bits: half of them are summed in each of two cycles.
        second = Signal(overlap, name=f"second_{name}", reset_less=True)
        with m.If(load):
            m.d.sync += second.eq(weights[1])
        rows = [Mux(second[bit], held[:overlap - bit], 0) << bit for bit in range(overlap)]
        halves = [register(sum(part)[:overlap], overlap, f"partial_{index}")
                  for index, part in enumerate((rows[:overlap // 2], rows[overlap // 2:]))]
        low = register((halves[0] + halves[1])[:overlap], overlap, "low")
        both = register(both, signed(shift + PRODUCT_BITS), "both")
    top = Signal(signed(max(1, overlap)), name=f"top_{name}")  # of the first product, from bit `shift`
    m.d.comb += top.eq(both[shift:PRODUCT_BITS] - low if overlap else both[shift - 1].replicate(1))
    first = register(Cat(both[:shift], top)[:PRODUCT_BITS], signed(PRODUCT_BITS), "first_product")
    return [first, register(both[shift:] - top, signed(PRODUCT_BITS), "second_product")]


def _multiplier(m, target, name, activation, held, weight, load, bits):
    """The lowest ``bits`` of the product, two cycles after the activation."""
    if target == "ecp5":
        whole = Signal(36, name=f"multiplier_output_{name}")
        always = C(1, 1)
        m.submodules[f"multiplier_{name}"] = _ecp5_multiplier(
            activation, weight, whole, {"INPUTA": always, "INPUTB": load, "OUTPUT": always})
        unused = len(whole) - len(activation) - len(weight)
        return whole[unused:unused + bits].as_signed()
    active = Signal(weight.shape(), name=f"active_{name}", reset_less=True)
    with m.If(load):
        m.d.sync += active.eq(weight)
    product = Signal(signed(bits), name=f"product_{name}", reset_less=True,
                     attrs={"use_dsp": "yes"} if target == "xilinx" else {})
    m.d.sync += product.eq(held * active)
    return product


def registered_product(m: Module, platform, name: str, left, right, enable=None):
    """``left * right``, one cycle later, in a register that ``enable`` clocks; without it, every cycle.

    On an ECP5 it is the register of the multiplier, which the tools do not find by themselves.

    Parameters
    ----------
    left, right
        At most 18 bits if signed, 17 if not.
    """
    enable = C(1, 1) if enable is None else enable
    shape = (left * right).shape()
    if getattr(platform, "target", "generic") != "ecp5":
        product = Signal(shape, name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += product.eq(left * right)
        return product
    left, right = (value if value.shape().signed else Cat(value, C(0, 1)).as_signed() for value in (left, right))
    whole = Signal(36, name=name)
    m.submodules[f"multiplier_{name}"] = _ecp5_multiplier(left, right, whole, {"OUTPUT": enable})
    product = whole[36 - len(left) - len(right):][:shape.width]
    return product.as_signed() if shape.signed else product


def _ecp5_multiplier(left, right, product, registers) -> Instance:
    """A MULT18X18D with those of its registers ``INPUTA``, ``INPUTB`` and ``OUTPUT`` that have an enable.

    The operands lie in the upper bits of their ports, and so does the product: constants below them cost no wires,
    copies of the sign above them would. The enables that are not used have the value of one that is: four
    multipliers share four nets for them.
    """
    ports: dict = {}
    for port, value in (("A", left), ("B", right)):
        operand = Cat(C(0, 18 - len(value)), value)
        for bit in range(18):
            ports[f"i_{port}{bit}"] = operand[bit]
    for bit in range(len(product)):
        ports[f"o_P{bit}"] = product[bit]
    ports |= {f"i_SIGNED{port}": C(1, 1) for port in "AB"} | {f"i_SOURCE{port}": C(0, 1) for port in "AB"}
    ports |= {f"i_RST{index}": C(0, 1) for index in range(4)} | {f"i_CLK{index}": C(0, 1) for index in range(1, 4)}
    enables = list(registers.values())
    ports |= {f"i_CE{index}": enables[min(index, len(enables) - 1)] for index in range(4)}
    for register in ("INPUTA", "INPUTB", "OUTPUT"):
        ports[f"p_REG_{register}_CLK"] = "CLK0" if register in registers else "NONE"
        ports[f"p_REG_{register}_CE"] = f"CE{list(registers).index(register)}" if register in registers else "CE0"
        ports[f"p_REG_{register}_RST"] = "RST0"
    return Instance("MULT18X18D", **ports, i_CLK0=ClockSignal(), p_REG_PIPELINE_CLK="NONE", p_CLK0_DIV="ENABLED",
                    p_GSR="DISABLED", p_SOURCEB_MODE="B_SHIFT", p_MULT_BYPASS="DISABLED", p_RESETMODE="SYNC")


def _ecp5_model() -> str:
    def inputs(port):
        return ", ".join(f"{port}{bit}" for bit in range(18))

    def word(port):
        return "{" + ", ".join(f"{port}{bit}" for bit in reversed(range(18))) + "}"

    def enable(register):
        return f'(REG_{register}_CE == "CE0" ? CE0 : REG_{register}_CE == "CE1" ? CE1 : CE2)'

    outputs = ", ".join(f"P{bit}" for bit in range(36))
    return f"""\
// Behaviour of the ECP5 multiplier as Celosia uses it, for simulation: signed operands, and registers at the inputs
// and the output, each of which may be left out.
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTA_CE = "CE0", parameter REG_INPUTA_RST = "RST0",
  parameter REG_INPUTB_CLK = "NONE", parameter REG_INPUTB_CE = "CE0", parameter REG_INPUTB_RST = "RST0",
  parameter REG_OUTPUT_CLK = "NONE", parameter REG_OUTPUT_CE = "CE0", parameter REG_OUTPUT_RST = "RST0",
  parameter REG_PIPELINE_CLK = "NONE", parameter CLK0_DIV = "ENABLED", parameter GSR = "ENABLED",
  parameter SOURCEB_MODE = "B_SHIFT", parameter MULT_BYPASS = "DISABLED", parameter RESETMODE = "SYNC"
) (
  input wire {inputs("A")},
  input wire {inputs("B")},
  input wire SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input wire CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output wire {outputs}
);
  reg signed [17:0] a, b;
  reg signed [35:0] p;
  wire signed [17:0] left = REG_INPUTA_CLK == "NONE" ? {word("A")} : a;
  wire signed [17:0] right = REG_INPUTB_CLK == "NONE" ? {word("B")} : b;
  wire signed [35:0] product = left * right;
  always @(posedge CLK0) begin
    if ({enable("INPUTA")}) a <= {word("A")};
    if ({enable("INPUTB")}) b <= {word("B")};
    if ({enable("OUTPUT")}) p <= product;
  end
  assign {{{", ".join(f"P{bit}" for bit in reversed(range(36)))}}} = REG_OUTPUT_CLK == "NONE" ? product : p;
endmodule
"""


#: Verilog of the vendor's cell that the target "ecp5" uses; for simulation only.
ECP5_MODEL = _ecp5_model()
