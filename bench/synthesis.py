"""What the generated Verilog of `small` takes on an ECP5."""

from celosia.generators.configurations import configuration
from celosia.generators.verilog import TOP
from celosia.session import cached_verilog
from celosia.synth.resources import ECP5_CELLS, synthesise_ecp5

from .results import Result

__all__ = ["measure_synthesis"]


def measure_synthesis() -> list[Result]:
    """Cells of ``small`` after Yosys's ``synth_ecp5``."""
    config = configuration("small")
    cells = synthesise_ecp5(cached_verilog(config), TOP)
    return [Result(f"ecp5_{kind.lower()}", config.name, "synth_ecp5", cells.get(kind, 0), name)
            for kind, name in ECP5_CELLS.items()]
