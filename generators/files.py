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
from .verilog import TOP, simulation_models

__all__ = ["Source", "file_names", "files_of", "sources_of"]

_LIST = f"{TOP}.f"
_SIMULATION_LIST = f"{TOP}_simulation.f"
_CELLS = f"{TOP}_cells.v"
_WAIVERS = f"{TOP}.vlt"
_XDC = f"{TOP}.xdc"
_LPF = f"{TOP}.lpf"
_PACKAGING = f"{TOP}_vivado.tcl"


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


def sources_of(config: AcceleratorConfig, verilog: str) -> tuple[Source, ...]:
    """The Verilog files of ``config``, whose accelerator is ``verilog``."""
    accelerator = Source(f"{TOP}.v", f"the accelerator in Verilog-2001; its top module is `{TOP}`", verilog)
    models = simulation_models(config.target)
    if not models:
        return (accelerator,)
    return accelerator, Source(_CELLS, "behaviour of the vendor's cells, for simulation", models, simulation_only=True)


def file_names(config: AcceleratorConfig) -> tuple[str, ...]:
    """The names of the files that :func:`files_of` makes for ``config``."""
    return tuple(files_of(config, ""))


def files_of(config: AcceleratorConfig, verilog: str, *, mhz: float = DEFAULT_MHZ) -> dict[str, str]:
    """The generated folder: the text of each file, by its name.

    Parameters
    ----------
    config : AcceleratorConfig
    verilog : str
        What :func:`~celosia.generators.verilog.to_verilog` has made of it.
    mhz : float
        The frequency that the timing constraints ask for, in MHz.

    Raises
    ------
    ConfigError
        When the frequency is out of its range.
    """
    sources = sources_of(config, verilog)
    synthesised = tuple(source.name for source in sources if not source.simulation_only)
    models = tuple(source.name for source in sources if source.simulation_only)
    files = [(source.name, source.doc, source.text) for source in sources]
    files.append((_LIST, "list of the Verilog files to synthesise", _list(synthesised)))
    if models:
        files.append((_SIMULATION_LIST, "list of the Verilog files to simulate", _list((*synthesised, *models))))
    files += [
        (_WAIVERS, "lint waivers for Verilator, each explained", to_waivers(f"{TOP}.v", *models)),
        (f"{TOP}.h", "C header: registers, instructions, configuration", to_header(config)),
        (f"{TOP}.rdl", "register map in SystemRDL 2.0", to_systemrdl(config)),
        ("registers.md", "register map as a page", registers_page(config)),
        (f"{TOP}.core", "FuseSoC core",
         to_core(config, sources=synthesised, models=models, waivers=_WAIVERS, xdc=_XDC, lpf=_LPF)),
        (_PACKAGING, "packages an IP for Vivado",
         to_packaging_script(config, script=_PACKAGING, sources=synthesised, xdc=_XDC)),
        (_XDC, f"timing constraints for Vivado: {mhz:g} MHz", to_xdc(mhz)),
        (f"{TOP}.sdc", f"timing constraints in SDC: {mhz:g} MHz", to_sdc(mhz)),
        (_LPF, f"timing constraints for nextpnr-ecp5: {mhz:g} MHz", to_lpf(mhz)),
        ("configuration.toml", "the configuration, as `celosia generate --config` reads it", config.to_toml()),
    ]
    readme = to_readme(config, [(name, doc) for name, doc, _text in files], sources=synthesised,
                       simulation=_SIMULATION_LIST if models else _LIST, waivers=_WAIVERS, packaging=_PACKAGING)
    return {name: text for name, _doc, text in files} | {"README.md": readme}


def _list(names: tuple[str, ...]) -> str:
    return "".join(f"{name}\n" for name in names)
