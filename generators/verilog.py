"""Amaranth to Verilog: one text with everything in it."""

from typing import Any

from amaranth import ClockDomain
from amaranth.back import verilog
from celosia.hdl.accelerator import Accelerator
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.parts.multiplier import ECP5_MODEL
from celosia.hdl.parts.shared import ModuleLibrary

from .tidy import tidy

__all__ = ["TOP", "convert", "simulation_models", "to_verilog"]

#: Name of the top module.
TOP = "celosia"


def convert(
    design: Any, *, name: str, target: str = "generic", ports: Any = None, rolled_array: bool = False
) -> str:
    """The Verilog of a design that has components of :mod:`celosia.hdl` in it; two runs are the same to the byte.

    Parameters
    ----------
    design, ports
        As for ``amaranth.back.verilog.convert``.
    name : str
        Of the top module.
    target : str
        As in the configuration: how memories are mapped.
    rolled_array : bool
        As for :func:`to_verilog`.
    """
    library = ModuleLibrary(target, rolled_array=rolled_array)
    texts = [_text(design, library, name, ports)]
    written: set[str] = set()
    while missing := sorted(library.components.keys() - written):
        for module in missing:
            component = library.components[module]
            # Its own clock domain, so that the module has no port for a reset that nothing uses.
            clock = ClockDomain("sync", reset_less=True)
            inside = component.elaborate(library)
            inside.domains += clock
            texts.append(_text(inside, library, module, {"clk": (clock.clk, None), **flat_ports(component)}))
        written.update(missing)
    return "\n".join([*texts, *(library.files[file] for file in sorted(library.files))])


def _text(design: Any, library: ModuleLibrary, name: str, ports: Any) -> str:
    # Without source locations the text, and so a compiled simulation, outlives an edited comment.
    return tidy(verilog.convert(design, name=name, platform=library, ports=ports, emit_src=False))


def to_verilog(config: AcceleratorConfig, *, rolled_array: bool = False) -> str:
    """The accelerator of ``config`` as one Verilog text.

    With ``rolled_array`` the systolic array in it is the model of :mod:`celosia.hdl.matmul.rolled_array`:
    SystemVerilog, equal in every cycle, faster to simulate and not meant for hardware.
    """
    design = Accelerator(config)
    return convert(design, name=TOP, target=config.target, ports=flat_ports(design), rolled_array=rolled_array)


def simulation_models(target: str) -> str:
    """Verilog of the vendor's cells that a ``target`` uses, for simulators; nothing where it uses none."""
    return ECP5_MODEL if target == "ecp5" else ""
