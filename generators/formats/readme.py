"""The README of a generated folder."""

from collections.abc import Iterable
from dataclasses import fields

from celosia.hdl.config import AcceleratorConfig

from .documents import GENERATED, table
from .fusesoc import core_name
from .ports import clock_name, interfaces_of, reset_name

__all__ = ["to_readme"]

_USE = """\
Clock and reset: everything runs on the rising edge of `{clock}`; `{reset}` is synchronous and active high, and is
registered first. A host writes the address of a program to the registers, starts it, and waits for the interrupt.

## Use

    verilator --lint-only -Wall --top-module {top} {waivers} -f {simulation}
    iverilog -g2001 -t null -s {top} -c {simulation}
    yosys -p "read_verilog {sources}; hierarchy -check -top {top}; proc; check -assert"
    fusesoc --cores-root . run --target lint {core}
    vivado -mode batch -source {packaging}

The first four run in this folder and change nothing in it, but that FuseSoC builds in `build`. The last packages the
accelerator as an IP in `{top}_ip`, which Vivado's IP integrator connects by its interfaces. Verilator 5.048 knows all
the warnings that are waived; an older one may say that it does not.
"""


def to_readme(config: AcceleratorConfig, prefix: str, files: Iterable[tuple[str, str]], *, sources: tuple[str, ...],
              simulation: str, waivers: str, packaging: str) -> str:
    """The README of the folder that has ``files`` (name and what it is), for the accelerator of ``config``.

    Parameters
    ----------
    prefix : name of the top module
    sources : names of the Verilog files to synthesise
    simulation : name of the file list for simulation and lint
    waivers, packaging : names of Verilator's control file and of Vivado's script
    """
    use = _USE.format(
        top=prefix, clock=clock_name(), reset=reset_name(), sources=" ".join(sources), simulation=simulation,
        waivers=waivers, packaging=packaging, core=core_name(prefix))
    return "\n".join([
        f"# Celosia accelerator, configuration {config.name}", "", GENERATED, "",
        f"An integer-only Transformer encoder accelerator with {config.rows} x {config.cols} PEs.", "",
        *table(("file", ""), ((f"`{name}`", doc) for name, doc in files)),
        "", "## Interfaces", "",
        *table(("interface", "", "role", "ports"), (
            (f"`{interface.name}`", interface.kind.value, "drives" if interface.manager else "is driven",
             len(interface.ports)) for interface in interfaces_of(config))),
        "", use,
        "## Configuration", "",
        *table(("parameter", "value", "unit", "meaning"), (
            (f"`{spec.name}`", getattr(config, spec.name), spec.metadata["unit"], spec.metadata["doc"])
            for spec in fields(config))),
        ""])
