"""The FPGA families that designs are synthesised for: how Yosys is told, and what their cells are."""

from dataclasses import dataclass

__all__ = ["FAMILIES", "PARTS", "Family", "Part"]


@dataclass(frozen=True)
class Family:
    """An FPGA family.

    Attributes
    ----------
    name : str
    synthesis : str
        Yosys' command, without the top module.
    cells : str
        Yosys' files with the cells that the Verilog makes instances of, if there are any.
    settings : tuple of str
        Parameters of configurations for it.
    luts : dict of str to int
        Prefixes of the types of cells that take LUTs, and how many; the longest one counts.
    flip_flops, multipliers : tuple of str
        Prefixes of types.
    block_rams : dict of str to float
        Prefixes of types, and how many block RAMs of the unit ``block_ram`` they take.
    block_ram : str
        What one is called.
    """

    name: str
    synthesis: str
    cells: str
    settings: tuple[str, ...]
    luts: dict[str, int]
    flip_flops: tuple[str, ...]
    multipliers: tuple[str, ...]
    block_rams: dict[str, float]
    block_ram: str


_XILINX_LUTS = {"LUT": 1, "RAM32X1": 1, "RAM64X1": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM32M": 4, "RAM64M": 4,
                "RAM32M16": 8, "RAM64M8": 8, "SRL": 1}
_XILINX_RAMS = {"RAMB18": 0.5, "RAMB36": 1}
#: Where a target has no multipliers of its own, but registers behind each.
_INFERRED = ("target=generic", "rows_per_sum=1", "weight_latches=0")

FAMILIES = {family.name: family for family in (
    # LUTs of five and more inputs are made of four-input halves that must lie together: too many wires would then
    # want to pass the same places.
    Family("ecp5", "synth_ecp5 -nowidelut", "+/ecp5/cells_sim.v +/ecp5/cells_bb.v", ("target=ecp5",),
           {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}, ("TRELLIS_FF",), ("MULT18X18D",), {"DP16KD": 1}, "DP16KD"),
    Family("xilinx7", "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf", "", ("target=xilinx",), _XILINX_LUTS,
           ("FD",), ("DSP48",), _XILINX_RAMS, "RAMB36"),
    Family("ultrascale+", "synth_xilinx -family xcup -flatten -noiopad -noclkbuf", "", ("target=xilinx",), _XILINX_LUTS,
           ("FD",), ("DSP48",), {**_XILINX_RAMS, "URAM": 8}, "RAMB36"),
    Family("gowin", "synth_gowin -family gw5a -noiopads", "", _INFERRED, {"LUT": 1, "ALU": 1, "RAM16": 4}, ("DFF",),
           ("MULT",), {"DPX9B": 1, "SDPX9B": 1, "DPB": 1, "SDPB": 1, "SP": 1}, "BSRAM"),
    Family("ice40", "synth_ice40 -dsp", "", _INFERRED, {"SB_LUT4": 1}, ("SB_DFF",), ("SB_MAC16",), {"SB_RAM40": 1},
           "RAM40"),
)}


@dataclass(frozen=True)
class Part:
    """A part that nextpnr places and routes.

    Attributes
    ----------
    name, family : str
    device, package : str
        nextpnr's option for it, and its package.
    block_columns : tuple of int
        First column of each block of four multipliers, and of four block RAMs; none if not known.
    multiplier_rows, ram_rows : tuple of int
        The rows in which these lie, those for the array first.
    """

    name: str
    family: str
    device: str
    package: str
    block_columns: tuple[int, ...] = ()
    multiplier_rows: tuple[int, ...] = ()
    ram_rows: tuple[int, ...] = ()


PARTS = {part.name: part for part in (
    Part("LFE5U-25F", "ecp5", "--25k", "CABGA381"),
    Part("LFE5U-45F", "ecp5", "--45k", "CABGA381"),
    Part("LFE5U-85F", "ecp5", "--85k", "CABGA381", (*range(4, 59, 9), *range(69, 115, 9)), (58, 34, 10),
         (82, 70, 46, 22)),
)}
