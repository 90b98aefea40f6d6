"""The one memory that everything is made of, and tables of constants.

Amaranth's own memories come with a value for each word, which costs half of the time it takes to write the Verilog,
and with a rule for reading a word while it is written, which costs logic. Ours need neither: where the
platform takes a Verilog file, a memory is an instance of a module that every tool maps to block RAM.
"""

from collections.abc import Sequence

from amaranth import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Ram", "Rom", "SharedTable"]

#: Memories of fewer words are not worth a block RAM.
_SMALL = 64

# The noise that the words hold at first is for four-state simulators, where x times 0 is x: rows and columns that pad a
# tile are words that nobody has written. Verilator, which knows no x, begins with values of its own. A synthesis tool
# must not see it, since a memory with content is not always a block RAM: most define SYNTHESIS (Yosys does, Vivado only
# in later versions), and those that do not heed the pragma.
_MODULE = """\
// {words} words, one read and one write port. A word that is read while it is written reads as anything.
module {name} #(
  parameter WIDTH = 8,
  parameter ADDRESS_BITS = 4,
  parameter SLICES = 1
) (
  input wire clk,
  input wire [SLICES-1:0] write_enable,
  input wire [ADDRESS_BITS-1:0] write_address,
  input wire [WIDTH-1:0] write_data,
  input wire read_enable,
  input wire [ADDRESS_BITS-1:0] read_address,
  output reg [WIDTH-1:0] read_data
);
  localparam SLICE = WIDTH / SLICES;
  {attributes}reg [WIDTH-1:0] content [0:(1<<ADDRESS_BITS)-1];
  integer slice;
  always @(posedge clk) begin
    for (slice = 0; slice < SLICES; slice = slice + 1)
      if (write_enable[slice])
        content[write_address][slice*SLICE +: SLICE] <= write_data[slice*SLICE +: SLICE];
    if (read_enable)
      read_data <= content[read_address];
`ifdef CELOSIA_COLLISIONS  // for simulation: a word that is read while it is written reads as none that it ever held
    if (read_enable && |write_enable && read_address == write_address)
      read_data <= ~content[read_address];
`endif
  end
`ifndef SYNTHESIS
`ifndef VERILATOR
  // synthesis translate_off
  // What a memory holds when the power comes: anything, but no x.
  integer word;
  reg [31:0] noise;
  initial
    for (word = 0; word < (1<<ADDRESS_BITS); word = word + 1) begin
      noise = 32'h9e3779b9 * (word + 1);
      content[word] = {{(WIDTH+31)/32{{noise}}}};
    end
  // synthesis translate_on
`endif
`endif
endmodule
"""

_TABLE = """\
// A table of constants.
module {name} (
  input wire clk,
  input wire read_enable,
  input wire [{top_address}:0] read_address,
  output reg [{top_bit}:0] read_data
);
  {attributes}reg [{top_bit}:0] content [0:{last}];
  initial begin
{words}
  end
  always @(posedge clk)
    if (read_enable)
      read_data <= content[read_address];
endmodule
"""

_SHARED_TABLE = """\
// A few words that are written at one place, and read at several in the same cycle.
module {name} #(
  parameter WIDTH = 8,
  parameter ADDRESS_BITS = 4,
  parameter READERS = 1
) (
  input wire clk,
  input wire write_enable,
  input wire [ADDRESS_BITS-1:0] write_address,
  input wire [WIDTH-1:0] write_data,
  input wire [READERS*ADDRESS_BITS-1:0] read_address,
  output wire [READERS*WIDTH-1:0] read_data
);
  {attributes}reg [WIDTH-1:0] content [0:(1<<ADDRESS_BITS)-1];
  always @(posedge clk)
    if (write_enable)
      content[write_address] <= write_data;
  genvar reader;
  generate
    for (reader = 0; reader < READERS; reader = reader + 1) begin : readers
      assign read_data[reader*WIDTH +: WIDTH] = content[read_address[reader*ADDRESS_BITS +: ADDRESS_BITS]];
    end
  endgenerate
endmodule
"""

#: How a target is told where a large memory goes, and a small one.
_STYLES = {"generic": ("", ""), "ecp5": ("block", "distributed"), "xilinx": ("block", "distributed")}


class Ram(wiring.Component):
    """A memory with one read and one write port.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words; a power of two.
    slices : int
        Parts of a word, of equal width, that can be written alone.

    Members
    -------
    write_enable : in, a bit a slice
    write_address, write_data : in
    read_enable, read_address : in
    read_data : out
        The word, one cycle after ``read_enable``; held until the next read.

    Rules
    -----
    1. A read in a later cycle than a write returns what was written.
    2. A read in the same cycle as a write of the same word returns anything.
    3. The content survives a reset and is undefined after power-up.

    In a simulation with the Verilog macro ``CELOSIA_COLLISIONS``, rule 2 returns the inverse of what the word held.
    """

    def __init__(self, width: int, depth: int, slices: int = 1):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two from 2, not {depth}")
        if slices < 1 or width % slices:
            raise ValueError(f"slices must divide width ({width}), not {slices}")
        self.depth, self.slices = depth, slices
        super().__init__({
            "write_enable": In(slices),
            "write_address": In(ceil_log2(depth)),
            "write_data": In(width),
            "read_enable": In(1),
            "read_address": In(ceil_log2(depth)),
            "read_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        if platform is None:
            self._amaranth_memory(m)
            return m
        large = self.depth >= _SMALL
        name = "celosia_ram" if large else "celosia_small_ram"
        style = _STYLES[getattr(platform, "target", "generic")][0 if large else 1]
        platform.add_file(f"{name}.v", _MODULE.format(
            name=name, words=f"{_SMALL} or more" if large else f"Fewer than {_SMALL}",
            attributes=f'(* no_rw_check, ram_style = "{style}" *) ' if style else "(* no_rw_check *) "))
        m.submodules.words = Instance(
            name,
            p_WIDTH=len(self.read_data), p_ADDRESS_BITS=len(self.read_address), p_SLICES=self.slices,
            i_clk=ClockSignal(), i_write_enable=self.write_enable, i_write_address=self.write_address,
            i_write_data=self.write_data, i_read_enable=self.read_enable, i_read_address=self.read_address,
            o_read_data=self.read_data)
        return m

    def _amaranth_memory(self, m):
        memory = m.submodules.words = Memory(shape=len(self.read_data), depth=self.depth, init=[])
        write = memory.write_port(granularity=len(self.read_data) // self.slices)
        read = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable), write.addr.eq(self.write_address), write.data.eq(self.write_data),
            read.en.eq(self.read_enable), read.addr.eq(self.read_address), self.read_data.eq(read.data),
        ]


class Rom(wiring.Component):
    """A table of constants in a memory.

    Parameters
    ----------
    width : int
        Bits of a word.
    words : sequence of int
        Its content; a power of two of them.
    name : str
        Of its Verilog module.

    Members
    -------
    read_enable, read_address : in
    read_data : out
        The word, one cycle after ``read_enable``; held until the next read.
    """

    def __init__(self, width: int, words: Sequence[int], name: str):
        if len(words) < 2 or len(words) & (len(words) - 1):
            raise ValueError(f"words must be a power of two from 2, not {len(words)} of them")
        self.words, self.name = list(words), name
        super().__init__({"read_enable": In(1), "read_address": In(ceil_log2(len(words))), "read_data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        width = len(self.read_data)
        if platform is None:
            memory = m.submodules.words = Memory(shape=width, depth=len(self.words), init=self.words)
            read = memory.read_port()
            m.d.comb += [
                read.en.eq(self.read_enable), read.addr.eq(self.read_address), self.read_data.eq(read.data)]
            return m
        style = _STYLES[getattr(platform, "target", "generic")][0]
        platform.add_file(f"{self.name}.v", _TABLE.format(
            name=self.name, top_address=len(self.read_address) - 1, top_bit=width - 1, last=len(self.words) - 1,
            attributes=f'(* rom_style = "{style}" *) ' if style else "",
            words="\n".join(f"    content[{i}] = {width}'d{word};" for i, word in enumerate(self.words))))
        m.submodules.words = Instance(
            self.name, i_clk=ClockSignal(), i_read_enable=self.read_enable, i_read_address=self.read_address,
            o_read_data=self.read_data)
        return m


class SharedTable(wiring.Component):
    """A few words that are written at one place, and read at several in the same cycle: registers, or the memory that
    look-up tables are made of.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words; a power of two.
    readers : int

    Members
    -------
    write_enable, write_address, write_data : in
    read_address : in, an address for each reader
    read_data : out, a word for each reader
        In the same cycle; from the cycle after a write on, what was written.
    """

    def __init__(self, width: int, depth: int, readers: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two from 2, not {depth}")
        self.depth, self.readers = depth, readers
        super().__init__({
            "write_enable": In(1),
            "write_address": In(ceil_log2(depth)),
            "write_data": In(width),
            "read_address": In(ceil_log2(depth) * readers),
            "read_data": Out(width * readers),
        })

    def elaborate(self, platform):
        m = Module()
        width, bits = len(self.write_data), len(self.write_address)
        if platform is None:
            memory = m.submodules.words = Memory(shape=width, depth=self.depth, init=[])
            write = memory.write_port()
            m.d.comb += [write.en.eq(self.write_enable), write.addr.eq(self.write_address),
                         write.data.eq(self.write_data)]
            for reader in range(self.readers):
                read = memory.read_port(domain="comb")
                m.d.comb += [read.addr.eq(self.read_address.word_select(reader, bits)),
                             self.read_data.word_select(reader, width).eq(read.data)]
            return m
        style = _STYLES[getattr(platform, "target", "generic")][1]
        name = "celosia_shared_table"
        platform.add_file(f"{name}.v", _SHARED_TABLE.format(
            name=name, attributes=f'(* ram_style = "{style}" *) ' if style else ""))
        m.submodules.words = Instance(
            name, p_WIDTH=width, p_ADDRESS_BITS=bits, p_READERS=self.readers,
            i_clk=ClockSignal(), i_write_enable=self.write_enable, i_write_address=self.write_address,
            i_write_data=self.write_data, i_read_address=self.read_address, o_read_data=self.read_data)
        return m
