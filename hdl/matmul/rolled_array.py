"""The systolic array as loops over arrays: a model for simulators, never for hardware."""

from amaranth import ClockSignal, Instance, Module

from ..config import AcceleratorConfig
from .array import SystolicArray, array_latency, sum_bits

__all__ = ["RolledArray", "array_for"]

_NAME = "celosia_rolled_array"

# In the array, rows see everything some cycles after row 0. Here no row is delayed: every row does in a cycle what
# row 0 does, and the sums wait for as long as they take through the rows. Columns are delayed as they are in the array.
# What moves right comes from further up in its SystemVerilog array, which has the last column of row 0 first and the
# first of the last row last: a C++ compiler makes vector instructions of such loops. A loop reads what was there before
# the clock edge.
_MODULE = f"""\
// For simulation only: equal to the array of PEs in every cycle.
module {_NAME} #(
  parameter int unsigned ROWS = 16,
  parameter int unsigned COLS = 16,
  parameter int unsigned SHARE = 1,  // columns that take an activation in the same cycle
  parameter int unsigned LATCHES = 0,  // a column takes what comes in, not what its neighbour has
  parameter int unsigned LATENCY = 4,
  parameter int unsigned SUM_BITS = 20
) (
  input wire clk,
  input wire [8*ROWS-1:0] activations,
  input wire unsigned_activations,
  input wire swap,
  input wire [8*ROWS-1:0] weights,
  input wire [COLS-1:0] shift,
  output reg [SUM_BITS*COLS-1:0] sums
);
  localparam int unsigned PES = ROWS * COLS;
  localparam int unsigned GROUPS = COLS / SHARE;
  localparam int unsigned DELAY = LATENCY - 3;  // of the sums of column 0, besides the three registers that they pass
  localparam int unsigned DELAYS = 2 ** $clog2(DELAY + 1);  // a divisor of the range of `now`

  // Longer than the array of PEs, for loops without an exception at the end.
  shortint unsigned held [0:2*PES-1], following [0:2*PES-1];
  shortint unsigned active [0:PES-1];
  shortint unsigned entered [0:ROWS-1];
  reg entered_swap = 0;
  reg [GROUPS-1:0] swaps = 0;
  shortint unsigned moves [0:COLS-1];  // all ones where a column takes another weight
  int unsigned total [0:COLS-1];
  reg [31:0] now = 0;
  int unsigned coming [0:DELAYS*COLS-1];  // what goes out in the next cycles

  reg [SUM_BITS*COLS-1:0] outputs;
  always @(posedge clk) begin
    /* verilator unroll_disable */
    for (int unsigned i = 0; i < COLS; i = i + 1)
      total[i] = 0;
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1) begin
      /* verilator unroll_disable */
      for (int unsigned i = 0; i < COLS; i = i + 1)
        total[i] = total[i] + 32'($signed(held[COLS*row+i] * active[COLS*row+i]));
    end

    // Activations and swaps move right.
    /* verilator unroll_disable */
    for (int unsigned pe = 0; pe < PES; pe = pe + 1)
      held[pe] = held[pe+SHARE];
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1) begin
      /* verilator unroll_full */
      for (int unsigned column = 0; column < SHARE; column = column + 1)
        held[COLS*(row+1)-1-column] = entered[row];
    end
    /* verilator unroll_full */
    for (int unsigned row = 0; row < ROWS; row = row + 1)
      entered[row] = 16'($signed({{activations[8*row+7] & ~unsigned_activations, activations[8*row +: 8]}}));
    swaps = GROUPS'({{swaps, entered_swap}});
    entered_swap = swap;
    if (swaps != 0) begin
      /* verilator unroll_full */
      for (int unsigned column = 0; column < COLS; column = column + 1)
        moves[COLS-1-column] = -16'(swaps[column/SHARE]);
      /* verilator unroll_full */
      for (int unsigned row = 0; row < ROWS; row = row + 1) begin
        /* verilator unroll_disable */
        for (int unsigned i = 0; i < COLS; i = i + 1)
          active[COLS*row+i] = (following[COLS*row+i] & moves[i]) | (active[COLS*row+i] & ~moves[i]);
      end
    end

    // So do the next weights, where their column shifts; column 0 takes those that come in.
    if (shift != 0) begin
      /* verilator unroll_full */
      for (int unsigned column = 0; column < COLS; column = column + 1)
        moves[COLS-1-column] = -16'(shift[column]);
      /* verilator unroll_full */
      for (int unsigned row = 0; row < ROWS; row = row + 1) begin
        /* verilator unroll_disable */
        for (int unsigned i = 0; i < COLS; i = i + 1)
          following[COLS*row+i] = (following[COLS*row+i] & ~moves[i])
            | ((LATCHES != 0 ? 16'($signed(weights[8*row +: 8])) : following[COLS*row+i+1]) & moves[i]);
      end
      if (shift[0]) begin
        /* verilator unroll_full */
        for (int unsigned row = 0; row < ROWS; row = row + 1)
          following[COLS*(row+1)-1] = 16'($signed(weights[8*row +: 8]));
      end
    end

    // Sums wait for as long as they take through the rows, and those of the first columns for the last ones.
    /* verilator unroll_full */
    for (int unsigned column = 0; column < COLS; column = column + 1)
      coming[(now+DELAY-column/SHARE)%DELAYS*COLS+column] = total[COLS-1-column];
    /* verilator unroll_full */
    for (int unsigned column = 0; column < COLS; column = column + 1)
      outputs[SUM_BITS*column +: SUM_BITS] = SUM_BITS'(coming[now%DELAYS*COLS+column]);
    sums <= outputs;
    now = now + 1;
  end
endmodule
"""


class RolledArray(SystolicArray):
    """A :class:`~celosia.hdl.matmul.array.SystolicArray` that simulates several times as fast; only a design that is
    converted with a :class:`~celosia.hdl.parts.shared.ModuleLibrary` can have it."""

    def elaborate(self, platform):
        config = self.config
        platform.add_file(f"{_NAME}.sv", _MODULE)
        m = Module()
        m.submodules.pes = Instance(
            _NAME, p_ROWS=config.rows, p_COLS=config.cols, p_SHARE=config.columns_per_activation,
            p_LATCHES=config.weight_latches, p_LATENCY=array_latency(config), p_SUM_BITS=sum_bits(config),
            i_clk=ClockSignal(),
            i_activations=self.activations.as_value(), i_unsigned_activations=self.unsigned_activations,
            i_swap=self.swap, i_weights=self.weights.as_value(), i_shift=self.shift, o_sums=self.sums.as_value())
        return m


def array_for(platform, config: AcceleratorConfig) -> SystolicArray:
    """The array of a design for ``platform``: the PEs themselves unless its ``rolled_array`` asks for the model."""
    return (RolledArray if getattr(platform, "rolled_array", False) else SystolicArray)(config)
