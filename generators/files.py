"""The files that ``celosia generate`` writes."""

from dataclasses import dataclass

from celosia.hdl.config import AcceleratorConfig

from .formats.constraints import DEFAULT_MHZ, to_lpf, to_sdc, to_xdc
from .formats.documents import registers_page
from .formats.fusesoc import to_core
from .formats.header import to_header
from .formats.readme import to_readme
from .formats.systemrdl import to_systemrdl
from .formats.vivado import to_packaging_script
from .formats.waivers import to_waivers
from .prefix import check_prefix
from .verilog import TOP, simulation_models, with_prefix

__all__ = ["Source", "file_names", "files_of", "sources_of"]


# Verilator would only warn of modules that are defined twice. Yosys refuses them, and may keep a macro from one design
# to the next.
_CLASH = """\
`ifndef YOSYS
`ifdef {macro}
`error "two accelerators have the prefix {prefix}: celosia generate --prefix gives one of them another"
`endif
`define {macro}
`endif
"""


@dataclass(frozen=True)
class Source:
    """A Verilog file.

    Parameters
    ----------
    name, doc, text : str
        Its name, what it is, and what it holds.
    simulation_only : bool
        It models what a synthesis tool has of its own: simulators and linters read it, synthesis does not.
    """

    name: str
    doc: str
    text: str
    simulation_only: bool = False


def sources_of(config: AcceleratorConfig, verilog: str, *, prefix: str = TOP) -> tuple[Source, ...]:
    """The Verilog files of ``config``; arguments as for :func:`files_of`."""
    text = _CLASH.format(macro=f"{prefix.upper()}_V", prefix=prefix) + with_prefix(verilog, prefix)
    accelerator = Source(f"{prefix}.v", f"the accelerator in Verilog-2001; its top module is `{prefix}`", text)
    models = simulation_models(config.target)
    if not models:
        return (accelerator,)
    return accelerator, Source(f"{prefix}_cells.v", "behaviour of the vendor's cells, for simulation", models,
                               simulation_only=True)


def file_names(config: AcceleratorConfig, *, prefix: str = TOP) -> tuple[str, ...]:
    """The names of the files that :func:`files_of` makes for ``config``."""
    return tuple(files_of(config, "", prefix=prefix))


def files_of(
    config: AcceleratorConfig, verilog: str, *, prefix: str = TOP, mhz: float = DEFAULT_MHZ
) -> dict[str, str]:
    """The generated folder: the text of each file, by its name.

    Parameters
    ----------
    config : AcceleratorConfig
    verilog : str
        What :func:`~celosia.generators.verilog.to_verilog` has made of it.
    prefix : str
        The name of the top module, and the beginning of all other names that a design gets to see, and of those of
        the files. Folders of different prefixes can be used together.
    mhz : float
        The frequency that the timing constraints ask for, in MHz.

    Raises
    ------
    ConfigError
        When the prefix can't be one, or the frequency is out of its range.
    """
    check_prefix(prefix)
    sources = sources_of(config, verilog, prefix=prefix)
    synthesised = tuple(source.name for source in sources if not source.simulation_only)
    models = tuple(source.name for source in sources if source.simulation_only)
    synthesis = simulation = f"{prefix}.f"
    waivers, xdc, lpf, packaging = f"{prefix}.vlt", f"{prefix}.xdc", f"{prefix}.lpf", f"{prefix}_vivado.tcl"
    files = [(source.name, source.doc, source.text) for source in sources]
    files.append((synthesis, "list of the Verilog files to synthesise", _list(synthesised)))
    if models:
        simulation = f"{prefix}_simulation.f"
        files.append((simulation, "list of the Verilog files to simulate", _list((*synthesised, *models))))
    files += [
        (waivers, "lint waivers for Verilator, each explained", to_waivers(*synthesised, *models)),
        (f"{prefix}.h", "C header: registers, instructions, configuration", to_header(config, prefix)),
        (f"{prefix}.rdl", "register map in SystemRDL 2.0", to_systemrdl(config, prefix)),
        (f"{prefix}_registers.md", "register map as a page", registers_page(config)),
        (f"{prefix}.core", "FuseSoC core",
         to_core(config, prefix, sources=synthesised, models=models, waivers=waivers, xdc=xdc, lpf=lpf)),
        (packaging, "packages an IP for Vivado",
         to_packaging_script(config, prefix, script=packaging, sources=synthesised, xdc=xdc)),
        (xdc, f"timing constraints for Vivado: {mhz:g} MHz", to_xdc(mhz)),
        (f"{prefix}.sdc", f"timing constraints in SDC: {mhz:g} MHz", to_sdc(mhz)),
        (lpf, f"timing constraints for nextpnr-ecp5: {mhz:g} MHz", to_lpf(mhz)),
        (f"{prefix}_configuration.toml",
         f"the configuration: with `--prefix {prefix}`, `celosia generate --config` writes the same from it",
         config.to_toml()),
    ]
    readme = to_readme(config, prefix, [(name, doc) for name, doc, _text in files], sources=synthesised,
                       simulation=simulation, waivers=waivers, packaging=packaging)
    return {name: text for name, _doc, text in files} | {f"{prefix}_README.md": readme}


def _list(names: tuple[str, ...]) -> str:
    return "".join(f"{name}\n" for name in names)
