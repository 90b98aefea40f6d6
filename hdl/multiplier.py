"""The multiplier of a PE: how each target is given one, and how two weights share it."""

from dataclasses import dataclass

from amaranth import C, Cat, ClockSignal, Instance, Module, Mux, Signal, signed

from .config import AcceleratorConfig

__all__ = ["ECP5_MODEL", "PRODUCT_BITS", "add_products", "products_latency"]

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
    """Cycles from an activation to its products."""
    if config.macs_per_multiplier == 1:
        return 2
    return 4 if _PACKINGS[config.target].overlap else 3


def add_products(m: Module, config: AcceleratorConfig, name: str, activation, held, weights, load):
    """Adds a multiplier to module ``m``; returns the ``macs_per_multiplier`` products, ``products_latency`` cycles
    after their activation.

    Parameters
    ----------
    activation : signed 9 bits
    held : signed 9 bits
        The activation one cycle later.
    weights : list of signed 8 bits
        One for each product; become active with the activation of the cycle in which ``load`` is high.
    """
    if len(weights) == 1:
        return [_multiplier(m, config, name, activation, held, weights[0], load, PRODUCT_BITS)]
    packing = _PACKINGS[config.target]
    shift, overlap = packing.shift, packing.overlap
    packed = Signal(signed(packing.bits), name=f"packed_{name}")
    m.d.comb += packed.eq((weights[1] << shift) + weights[0])
    both = _multiplier(m, config, name, activation, held, packed, load, shift + PRODUCT_BITS)

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


def _multiplier(m, config, name, activation, held, weight, load, bits):
    """The lowest ``bits`` of the product, two cycles after the activation."""
    if config.target == "ecp5":
        whole = Signal(36, name=f"multiplier_output_{name}")
        m.submodules[f"multiplier_{name}"] = _ecp5_multiplier(activation, weight, load, whole)
        return whole[:bits].as_signed()
    active = Signal(weight.shape(), name=f"active_{name}", reset_less=True)
    with m.If(load):
        m.d.sync += active.eq(weight)
    product = Signal(signed(bits), name=f"product_{name}", reset_less=True,
                     attrs={"use_dsp": "yes"} if config.target == "xilinx" else {})
    m.d.sync += product.eq(held * active)
    return product


def _ecp5_multiplier(activation, weight, load, product) -> Instance:
    """A MULT18X18D with registers at its inputs and its output; the weight's takes a new value with ``load``."""
    ports: dict = {}
    for port, value in (("A", activation), ("B", weight)):
        for bit in range(18):
            ports[f"i_{port}{bit}"] = value[min(bit, len(value) - 1)]
    for bit in range(len(product)):
        ports[f"o_P{bit}"] = product[bit]
    ports |= {f"i_SIGNED{port}": C(1, 1) for port in "AB"} | {f"i_SOURCE{port}": C(0, 1) for port in "AB"}
    ports |= {f"i_RST{index}": C(0, 1) for index in range(4)} | {f"i_CLK{index}": C(0, 1) for index in range(1, 4)}
    ports |= {"i_CLK0": ClockSignal(), "i_CE0": C(1, 1), "i_CE1": load, "i_CE2": C(0, 1), "i_CE3": C(0, 1)}
    for register, enable in (("INPUTA", "CE0"), ("INPUTB", "CE1"), ("OUTPUT", "CE0")):
        ports |= {f"p_REG_{register}_CLK": "CLK0", f"p_REG_{register}_CE": enable, f"p_REG_{register}_RST": "RST0"}
    return Instance("MULT18X18D", **ports, p_REG_PIPELINE_CLK="NONE", p_CLK0_DIV="ENABLED", p_GSR="DISABLED",
                    p_SOURCEB_MODE="B_SHIFT", p_MULT_BYPASS="DISABLED", p_RESETMODE="SYNC")


def _ecp5_model() -> str:
    def inputs(port):
        return ", ".join(f"{port}{bit}" for bit in range(18))

    def word(port):
        return "{" + ", ".join(f"{port}{bit}" for bit in reversed(range(18))) + "}"

    outputs = ", ".join(f"P{bit}" for bit in range(36))
    return f"""\
// Behaviour of the ECP5 multiplier as Celosia uses it, for simulation: signed operands, input registers of which
// A's is always enabled and B's by CE1, and an output register.
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTA_CE = "CE0", parameter REG_INPUTA_RST = "RST0",
  parameter REG_INPUTB_CLK = "NONE", parameter REG_INPUTB_CE = "CE0", parameter REG_INPUTB_RST = "RST0",
  parameter REG_OUTPUT_CLK = "NONE", parameter REG_OUTPUT_CE = "CE0", parameter REG_OUTPUT_RST = "RST0",
  parameter REG_PIPELINE_CLK = "NONE", parameter CLK0_DIV = "ENABLED", parameter GSR = "ENABLED",
  parameter SOURCEB_MODE = "B_SHIFT", parameter MULT_BYPASS = "DISABLED", parameter RESETMODE = "SYNC"
) (
  input {inputs("A")},
  input {inputs("B")},
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output {outputs}
);
  reg signed [17:0] a, b;
  reg signed [35:0] p;
  always @(posedge CLK0) begin
    a <= {word("A")};
    if (CE1) b <= {word("B")};
    p <= a * b;
  end
  assign {{{", ".join(f"P{bit}" for bit in reversed(range(36)))}}} = p;
endmodule
"""


#: Verilog of the vendor's cell that the target "ecp5" uses; for simulation only.
ECP5_MODEL = _ecp5_model()
