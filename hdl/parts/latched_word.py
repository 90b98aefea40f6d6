"""A word that waits in latches until it is wanted: for ASICs, where they are smaller than flip-flops with an enable."""

from amaranth import ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LatchedWord"]

# The following word's latches are open while the clock is low, when what registers offer them does not change; so is
# that of the gate of the clock, as in a library's cell for that. The active word's are open while the clock is high,
# when the following word does not change: so it changes at the edge alone. That is what simulators read, since in some
# of them a latch would change before other registers have seen it.
_MODULE = """\
// The following word waits in latches that are open while the clock is low, the active one is in others.
module {name} #(
  parameter WIDTH = 8
) (
  input wire clk,
  input wire take,
  input wire [WIDTH-1:0] word,
  input wire swap,
  output reg [WIDTH-1:0] active
);
  reg [WIDTH-1:0] following;
  reg swaps;
  wire open = take & ~clk;
  wire moves = swaps & clk;
  /* verilator lint_off LATCH */
  always @*
    if (open) following = word;
  always @*
    if (!clk) swaps = swap;
`ifdef SYNTHESIS
  /* verilator lint_off COMBDLY */
  always @*
    if (moves) active <= following;
  /* verilator lint_on COMBDLY */
`else
  always @(posedge moves)
    active <= following;
`endif
  /* verilator lint_on LATCH */
endmodule
"""


class LatchedWord(wiring.Component):
    """A word, and the one that will follow it.

    Parameters
    ----------
    width : int

    Members
    -------
    take : in
        ``word`` is the following one, in this cycle too.
    word : in, ``width`` bits
    swap : in
        From the next cycle on the following word is ``active``.
    active : out, ``width`` bits

    Rules
    -----
    1. ``take``, ``word`` and ``swap`` come from registers.
    """

    def __init__(self, width: int):
        super().__init__({"take": In(1), "word": In(width), "swap": In(1), "active": Out(width)})

    def elaborate(self, platform):
        m = Module()
        width = len(self.word)
        if platform is None:
            following, active = (Signal(width, name=name, reset_less=True) for name in ("following", "active_word"))
            m.d.comb += self.active.eq(active)
            with m.If(self.take):
                m.d.sync += following.eq(self.word)
            with m.If(self.swap):
                m.d.sync += active.eq(Mux(self.take, self.word, following))
            return m
        name = "celosia_latched_word"
        platform.add_file(f"{name}.v", _MODULE.format(name=name))
        m.submodules.cell = Instance(name, p_WIDTH=width, i_clk=ClockSignal(), i_take=self.take, i_word=self.word,
                                     i_swap=self.swap, o_active=self.active)
        return m
