"""Verilog of a component under test, with the flat port names that bus models look for."""

from typing import Any

from amaranth.back import verilog
from celosia.hdl.axi import flat_ports

__all__ = ["to_verilog"]

#: Noise on generated Verilog: a state machine or a switch without a default keeps the values assigned before
#: it; and Verilator calls a port `interrupt` something else in C++, which cocotb does not see.
_WAIVED = ("CASEINCOMPLETE", "SYMRSVDWORD")


def to_verilog(design: Any) -> str:
    """Verilog text of ``design`` as module ``top``; ports are named as by ``flat_ports``."""
    text = verilog.convert(design, name="top", ports=flat_ports(design), emit_src=False)
    return "".join(f"/* verilator lint_off {name} */\n" for name in _WAIVED) + text
