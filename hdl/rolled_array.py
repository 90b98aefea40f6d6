"""The systolic array as loops over arrays: a model for simulators, never for hardware."""

from amaranth import ClockSignal, Instance, Module

from .array import SystolicArray, sum_bits
from .config import AcceleratorConfig
from .multiplier import products_latency

__all__ = ["RolledArray", "array_for"]

_NAME = "celosia_rolled_array"

# Every register of the PEs is an array, from the last PE of the last row to the first of the first: what moves right or
# down then comes from further up in the array, and a C++ compiler makes vector instructions of the loops. What a loop
# reads is what was there before the clock edge.
_MODULE = f"""\
// For simulation only: equal to the array of PEs in every cycle.
module {_NAME} #(
  parameter int unsigned ROWS = 16,
  parameter int unsigned COLS = 16,
  parameter int unsigned SHARE = 1,
  parameter int unsigned LATENCY = 2,
  parameter int unsigned SUM_BITS = 20
) (
  input clk,
  input [9*ROWS-1:0] activations,
  input swap,
  input [8*ROWS-1:0] weights,
  input [COLS-1:0] shift,
  output reg [SUM_BITS*COLS-1:0] sums
);
  localparam int unsigned PES = ROWS * COLS;
  localparam int unsigned DELAYS = 4 * COLS;

  // What came in during the last ROWS cycles, and what goes out in the next ones.
  reg [31:0] now = 0;
  shortint unsigned recent_activations [0:ROWS*ROWS-1];
  shortint unsigned recent_weights [0:ROWS*ROWS-1];
  shortint unsigned recent_swaps [0:ROWS-1];
  int unsigned coming [0:DELAYS*COLS-1];

  shortint unsigned held [0:PES-1], following [0:PES-1], active [0:PES-1], product [0:PES-1];
  shortint unsigned swapping [0:PES-1], shifting [0:PES-1];  // all ones where it is so
  int unsigned total [0:PES-1];

  reg [SUM_BITS*COLS-1:0] outputs;
  always @(posedge clk) begin
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES - COLS; pe = pe + 1)
      total[pe] = total[pe+COLS] + 32'($signed(product[pe]));
    /* verilator unroll_disable */
    for (int unsigned pe = PES - COLS; pe < PES; pe = pe + 1)
      total[pe] = 32'($signed(product[pe]));
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES; pe = pe + 1)
      product[pe] = held[pe] * active[pe];

    // Activations and swaps move right; those of row r have come in r cycles ago.
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES - SHARE; pe = pe + 1)
      held[pe] = held[pe+SHARE];
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES - SHARE; pe = pe + 1)
      swapping[pe] = swapping[pe+SHARE];
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1) begin
      recent_activations[ROWS*row+now%ROWS] = 16'($signed(activations[9*row +: 9]));
      recent_weights[ROWS*row+now%ROWS] = 16'($signed(weights[8*row +: 8]));
    end
    recent_swaps[now%ROWS] = -16'(swap);
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1) begin
      /* verilator unroll_full */
      for (int unsigned first = PES - COLS * row - SHARE; first < PES - COLS * row; first = first + 1) begin
        held[first] = recent_activations[ROWS*row+(now-row)%ROWS];
        swapping[first] = recent_swaps[(now-row)%ROWS];
      end
    end
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES; pe = pe + 1)
      active[pe] = (following[pe] & swapping[pe]) | (active[pe] & ~swapping[pe]);

    // Which columns shift moves down.
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES - COLS; pe = pe + 1)
      shifting[pe] = shifting[pe+COLS];
    /* verilator unroll_full */
    for (int unsigned column = 0; column < COLS; column = column + 1)
      shifting[PES-1-column] = -16'(shift[column]);
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES - 1; pe = pe + 1)
      following[pe] = (following[pe+1] & shifting[pe]) | (following[pe] & ~shifting[pe]);
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1)
      if (shifting[PES-COLS*row-1] != 0)
        following[PES-COLS*row-1] = recent_weights[ROWS*row+(now-row)%ROWS];

    // Sums of the first columns wait for the last ones.
    /* verilator unroll_full */
    for (int unsigned column = 0; column < COLS; column = column + 1)
      coming[(now+(COLS-1-column)/SHARE+LATENCY-2)%DELAYS*COLS+column] = total[COLS-1-column];
    /* verilator unroll_full */
    for (int unsigned column = 0; column < COLS; column = column + 1)
      outputs[SUM_BITS*column +: SUM_BITS] = SUM_BITS'(coming[now%DELAYS*COLS+column]);
    sums <= outputs;
    now = now + 1;
  end
endmodule
"""


class RolledArray(SystolicArray):
    """A :class:`~celosia.hdl.array.SystolicArray` that simulates several times as fast; only a design that is converted
    with a :class:`~celosia.hdl.shared.ModuleLibrary` can have it."""

    def elaborate(self, platform):
        config = self.config
        platform.add_file(f"{_NAME}.sv", _MODULE)
        m = Module()
        m.submodules.pes = Instance(
            _NAME, p_ROWS=config.rows, p_COLS=config.cols, p_SHARE=config.macs_per_multiplier,
            p_LATENCY=products_latency(config), p_SUM_BITS=sum_bits(config), i_clk=ClockSignal(),
            i_activations=self.activations.as_value(), i_swap=self.swap, i_weights=self.weights.as_value(),
            i_shift=self.shift, o_sums=self.sums.as_value())
        return m


def array_for(platform, config: AcceleratorConfig) -> SystolicArray:
    """The array of a design for ``platform``: the PEs themselves unless its ``rolled_array`` asks for the model."""
    return (RolledArray if getattr(platform, "rolled_array", False) else SystolicArray)(config)
