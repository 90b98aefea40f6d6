"""Configuration to Verilog."""

from amaranth.back import verilog
from celosia.hdl.accelerator import Accelerator
from celosia.hdl.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig

from .tidy import tidy

__all__ = ["TOP", "to_verilog"]

#: Name of the top module.
TOP = "celosia"


def to_verilog(config: AcceleratorConfig) -> str:
    """The accelerator of ``config`` as one Verilog text; two runs are the same to the byte."""
    design = Accelerator(config)
    text = verilog.convert(design, name=TOP, ports=flat_ports(design), emit_src=False)
    return tidy(text)
