"""Amaranth to Verilog: one text with everything in it."""

import gc
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from amaranth import ClockDomain
from amaranth.back import verilog
from celosia.hdl.accelerator import Accelerator
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.parts.multiplier import ECP5_MODEL
from celosia.hdl.parts.shared import LIBRARY, ModuleLibrary

from .tidy import tidy

__all__ = ["TOP", "convert", "simulation_models", "to_verilog", "vendor_cells", "with_prefix"]

#: Name of the top module, unless another is asked for.
TOP = "celosia"

#: Where a text says the name of a module: where it is defined, and where an instance of it begins. The name of a
#: module that Amaranth has made goes on with where it lies in another, after a dot.
_DEFINED = re.compile(r"^module \\?([A-Za-z_]\w*)(?=[ (.])", re.MULTILINE | re.ASCII)
_NAMED = re.compile(r"^(module |  )(\\?)([A-Za-z_]\w*)(?=[ (.])", re.MULTILINE | re.ASCII)
_WHOLE_NAME = re.compile(r"^module (\\\S+|\w+)", re.MULTILINE | re.ASCII)


def convert(
    design: Any, *, name: str, target: str = "generic", ports: Any = None, rolled_array: bool = False
) -> str:
    """The Verilog of a design that has components of :mod:`celosia.hdl` in it; two runs are the same to the byte.

    Parameters
    ----------
    design, ports
        As for ``amaranth.back.verilog.convert``.
    name : str
        Of the top module. The names of all others begin with it: texts with tops of different names can be used
        together.
    target : str
        As in the configuration: how memories are mapped.
    rolled_array : bool
        As for :func:`to_verilog`.

    Raises
    ------
    ValueError
        When ``name`` is no identifier, or a module would have two contents.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"the name of a top module must be a Verilog identifier, not {name!r}")
    library = ModuleLibrary(target, rolled_array=rolled_array)
    with _uncollected():
        texts = _texts(design, library, name, ports)
    files = [library.files[file] for file in sorted(library.files)]
    # What a library's modules hold depends on its target too; a text has one.
    mapping = "" if target == "generic" else f"_{target}"
    names = {module: f"{name}{module.removeprefix(LIBRARY).removesuffix(mapping)}{mapping}"
             for module in (*library.components, *_DEFINED.findall("\n".join(files)))
             if module.startswith(f"{LIBRARY}_")}
    text = _renamed("\n".join([*texts, *files]), names)
    twice = [module for module, count in Counter(_WHOLE_NAME.findall(text)).items() if count > 1]
    if twice:
        raise ValueError(f"the module {twice[0]} must be one in a design, not two")
    return text


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for garbage among the hundreds of thousands of objects of a design, all of which it needs: it
    takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _texts(design: Any, library: ModuleLibrary, name: str, ports: Any) -> list[str]:
    """The Verilog of a design, and of each component that ``library`` has of it."""
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
    return texts


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Verilog with other names for those modules that ``names`` has, and for those that lie in them."""
    return _NAMED.sub(lambda match: f"{match[1]}{match[2]}{names.get(match[3], match[3])}", text)


def with_prefix(text: str, prefix: str) -> str:
    """What :func:`to_verilog` has made, with ``prefix`` for the name of its top module, and at the beginning of the
    names of all others."""
    return _renamed(text, {module: f"{prefix}{module.removeprefix(TOP)}" for module in _DEFINED.findall(text)
                           if module == TOP or module.startswith(f"{TOP}_")})


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
    """Verilog of the vendor's cells that a ``target`` uses, for simulators; nothing where it uses none. A text that has
    it twice defines them once; synthesis, which has them, finds none in it."""
    return _guarded(ECP5_MODEL) if target == "ecp5" else ""


def vendor_cells() -> tuple[str, ...]:
    """The names of the vendors' cells that some target uses."""
    return tuple(_DEFINED.findall(ECP5_MODEL))


def _guarded(model: str) -> str:
    (cell,) = _DEFINED.findall(model)
    return f"`ifndef SYNTHESIS\n`ifndef CELOSIA_{cell}\n`define CELOSIA_{cell}\n{model}`endif\n`endif\n"
