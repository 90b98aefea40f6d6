"""The generated Verilog inside a LiteX SoC with a VexRiscv.

    celosia generate --config tiny -o build/tiny
    python docs/examples/litex_soc.py build/tiny/celosia_tiny build/litex

writes the SoC's Verilog, the list of its files, and its registers and memories for C, into ``build/litex``. It needs
LiteX and the CPU's Verilog (``pip install litex pythondata-cpu-vexriscv``), and of Celosia only the generated folder.
``celosia_tiny`` is the prefix of what is generated: a folder may have several.

The registers lie in a region of the SoC's bus; the accelerator reads and writes memory as a master of that bus, so its
addresses are those of the CPU. Its interrupt is an event, with the CSRs that LiteX gives an event.

Tried with LiteX 2024.12: it elaborates, and Verilator finds every port connected. It was not run.
"""

import sys
import tomllib
from contextlib import chdir
from pathlib import Path

from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration.export import get_csr_header, get_mem_header
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import ClockSignal, Instance, ResetSignal, Signal
from migen.genlib.io import CRG

#: Bytes of the region that the registers take.
REGISTER_BYTES = 0x1000

_ADDRESS = ("addr", "prot", "valid", "ready")
_FULL_ADDRESS = ("id", "len", "size", "burst", "lock", "cache", "qos", *_ADDRESS)
#: The signals of each channel, as LiteX calls them; the Verilog puts the channel's name before them.
AXI4_LITE = {"aw": _ADDRESS, "w": ("data", "strb", "valid", "ready"), "b": ("resp", "valid", "ready"),
             "ar": _ADDRESS, "r": ("data", "resp", "valid", "ready")}
AXI4 = {"aw": _FULL_ADDRESS, "w": ("data", "strb", "last", "valid", "ready"), "b": ("id", "resp", "valid", "ready"),
        "ar": _FULL_ADDRESS, "r": ("id", "data", "resp", "last", "valid", "ready")}


def axi_ports(prefix, bus, channels, *, manager):
    """The ports of an AXI interface for a Migen ``Instance``; the instance drives the requests if it is the manager."""
    ports = {}
    for channel, signals in channels.items():
        request = channel in ("aw", "w", "ar")
        for signal in signals:
            driven = (request == manager) != (signal == "ready")
            ports[f"{'o' if driven else 'i'}_{prefix}_{channel}{signal}"] = getattr(getattr(bus, channel), signal)
    return ports


class Celosia(LiteXModule):
    """An accelerator.

    Parameters
    ----------
    platform : the platform that gets its Verilog
    generated : Path
        The folder that ``celosia generate`` has written to, and in it the prefix.
    """

    def __init__(self, platform, generated):
        folder, prefix = generated.parent, generated.name
        config = tomllib.loads((folder / f"{prefix}_configuration.toml").read_text())
        self.control = AXILiteInterface(data_width=32, address_width=32)
        self.memory = AXIInterface(data_width=config["bus_bits"], address_width=config["address_bits"], id_width=1)
        interrupt = Signal()
        self.ev = EventManager()
        self.ev.done = EventSourceLevel(description="A program has ended, and this was not acknowledged yet.")
        self.ev.finalize()
        self.comb += self.ev.done.trigger.eq(interrupt)
        ports = {
            "i_clk": ClockSignal("sys"),
            "i_rst": ResetSignal("sys"),
            "o_interrupt": interrupt,
            **axi_ports("s_axi_ctrl", self.control, AXI4_LITE, manager=False),
            **axi_ports("m_axi_mem", self.memory, AXI4, manager=True),
        }
        for name in ("i_s_axi_ctrl_awaddr", "i_s_axi_ctrl_araddr"):
            ports[name] = ports[name][:(REGISTER_BYTES - 1).bit_length()]
        self.specials += Instance(prefix, **ports)
        for line in (folder / f"{prefix}.f").read_text().splitlines():
            platform.add_source(str(folder / line))


class Soc(SoCCore):
    """A VexRiscv, memories, and the accelerator."""

    def __init__(self, platform, generated):
        self.crg = CRG(platform.request("sys_clk"))
        super().__init__(platform, clk_freq=int(1e6), cpu_type="vexriscv", bus_standard="axi", with_uart=False,
                         integrated_rom_size=0x1000, integrated_sram_size=0x1000, integrated_main_ram_size=0x10000)
        self.celosia = Celosia(platform, generated)
        self.bus.add_slave("celosia", self.celosia.control, SoCRegion(size=REGISTER_BYTES, cached=False))
        self.bus.add_master("celosia", self.celosia.memory)
        self.irq.add("celosia")


def main(generated, output):
    """Write the SoC with the accelerator ``generated`` into the folder ``output``."""
    platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1))])
    soc = Soc(platform, generated)
    soc.finalize()
    output.mkdir(parents=True, exist_ok=True)
    design = platform.get_verilog(soc, ios=platform.constraint_manager.get_io_signals(), name="soc")
    with chdir(output):  # where the contents of the memories go too
        design.write("soc.v")
    (output / "soc.f").write_text("".join(f"{path}\n" for path, *_ in [("soc.v",), *platform.sources]))
    (output / "csr.h").write_text(get_csr_header(soc.csr.regions, soc.constants))
    (output / "mem.h").write_text(get_mem_header(soc.mem_regions))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: litex_soc.py GENERATED_FOLDER/PREFIX OUTPUT_FOLDER")
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
