"""Place and route for Lattice ECP5, with nextpnr."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .families import Part
from .pins import PINS_TOP
from .tools import SynthesisError, run_tool

__all__ = ["ROUTING", "Routed", "place_and_route"]

#: With the default placer, which packs cells closely, the router does not come to an end. It takes the shortest wires
#: at first; those that are too slow for the clock that is aimed at are routed again, for many hundred rounds.
ROUTING = ("--placer", "static", "--router", "router2", "--tmg-ripup")
#: What nextpnr calls the four resources.
_CELLS = {"luts": "TRELLIS_COMB", "flip_flops": "TRELLIS_FF", "multipliers": "MULT18X18D", "block_rams": "DP16KD"}


@dataclass(frozen=True)
class Routed:
    """What nextpnr made of a netlist.

    Attributes
    ----------
    mhz : float
        The highest frequency of the routed clock, by nextpnr's timing analysis.
    used, available : dict of str to int
        ``luts`` (with carry chains and distributed memory), ``flip_flops``, ``multipliers``, ``block_rams``.
    critical : tuple of str
        The nets of the slowest path.
    """

    mhz: float
    used: dict[str, int]
    available: dict[str, int]
    critical: tuple[str, ...]


def place_and_route(part: Part, folder: Path, *, mhz: float, seed: int = 1) -> Routed:
    """Place and route ``folder/netlist.json``, which Yosys left there.

    Parameters
    ----------
    mhz : float
        The frequency that is aimed at; missing it is no error.
    seed : int
        Of the placement.

    Raises
    ------
    SynthesisError
        When nextpnr is not installed, or the design does not fit or route.
    """
    (folder / "pins.lpf").write_text(f'FREQUENCY PORT "clk" {mhz:.3f} MHZ;\n')
    # The pins lie where nextpnr likes: inside a chip they would be none.
    log = run_tool("nextpnr-ecp5", [
        part.device, "--speed", "6", "--package", part.package, "--json", "netlist.json", "--top", PINS_TOP,
        "--lpf", "pins.lpf", "--lpf-allow-unconstrained", "--timing-allow-fail", "--seed", str(seed),
        *ROUTING, "--report", "report.json"], folder)
    report = json.loads((folder / "report.json").read_text())
    if len(report["fmax"]) != 1:
        raise SynthesisError(f"the design must have one clock, not {len(report['fmax'])}")
    clock, = report["fmax"].values()
    counts = {name: report["utilization"][cell] for name, cell in _CELLS.items()}
    paths = [path for path in report["critical_paths"] if "<async>" not in (path["from"], path["to"])]
    nets = tuple(step["net"] for step in paths[0]["path"] if step["type"] == "routing") if paths else ()
    if not re.search(r"Program finished normally", log):
        raise SynthesisError(f"nextpnr did not finish:\n{log[-2000:]}")
    return Routed(clock["achieved"], {name: count["used"] for name, count in counts.items()},
                  {name: count["available"] for name, count in counts.items()}, nets)
