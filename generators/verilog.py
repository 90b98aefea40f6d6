"""Configuration to Verilog."""

import re

from amaranth.back import verilog

from celosia.hdl.accelerator import Accelerator
from celosia.hdl.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig

__all__ = ["TOP", "to_verilog"]

#: Name of the top module.
TOP = "celosia"

# What Amaranth writes for a memory without content: a zero for each word. Ours are undefined after power-up, and
# a memory with content is not always a block RAM.
_ZEROS = re.compile(r"^  initial begin\n(?:    \S+\[\d+\] = \d+'h0+;\n)+  end\n", re.MULTILINE)


def to_verilog(config: AcceleratorConfig) -> str:
    """The accelerator of ``config`` as one Verilog text; two runs are the same to the byte."""
    design = Accelerator(config)
    text = verilog.convert(design, name=TOP, ports=flat_ports(design), emit_src=False)
    return _ZEROS.sub("", text)
