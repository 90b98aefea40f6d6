"""Synthesises a configuration for a part: ``python -m celosia.synth --config small --part LFE5U-85F``.

Exit codes: 0 done, 1 a check failed, 2 bad input or a missing tool.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from celosia.generators.configurations import configuration
from celosia.generators.verilog import to_verilog
from celosia.hdl.config import ConfigError
from rich.console import Console
from rich.table import Table

from .families import FAMILIES, PARTS
from .resources import RESOURCES, Resources, synthesise
from .results import compare, save, table
from .routing import place_and_route
from .tools import SynthesisError

_out = Console(width=None if sys.stdout.isatty() else 130)


def _hierarchy(resources: Resources) -> Table:
    result = Table("block", "LUT", "FF", "DSP", "block RAM", title="where the area goes")
    for column in result.columns[1:]:
        column.justify = "right"
    for block, counts in sorted(resources.hierarchy.items(), key=lambda item: -item[1]["luts"]):
        result.add_row(block, *(f"{counts[name]:,g}" for name in RESOURCES))
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m celosia.synth", description=__doc__)
    parser.add_argument("--config", default="small", help="a named configuration, or a .toml file")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="replace a parameter: lanes=4")
    parser.add_argument("--part", default="LFE5U-85F",
                        help=f"routed: {', '.join(PARTS)}; resources only: {', '.join(FAMILIES)}")
    parser.add_argument("--frequency", type=float, default=125.0, help="MHz that the routing aims at")
    parser.add_argument("--seed", type=int, default=1, help="of the placement")
    parser.add_argument("--folder", type=Path, help="where logs and netlist go; build/synth/CONFIG-PART by default")
    parser.add_argument("--results", type=Path, help="JSON file that keeps the results, and is compared with")
    parser.add_argument("--show", action="store_true", help="only show what --results has")
    parser.add_argument("--max-levels", type=int, help="fail when a path has more LUTs")
    parser.add_argument("--min-frequency", type=float, help="fail below so many MHz")
    return parser


def main() -> int:
    """Synthesise, and route where the part can be; print the tables."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.show and not arguments.results:
        parser.error("--show needs --results")
    try:
        if arguments.show:
            _out.print(table(json.loads(arguments.results.read_text())))
            return 0
        return _run(arguments)
    except (ConfigError, SynthesisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    part = PARTS.get(arguments.part)
    family = part.family if part else arguments.part
    if family not in FAMILIES:
        raise ConfigError(f"the part must be one of {', '.join([*PARTS, *FAMILIES])}, not {arguments.part!r}")
    config = configuration(arguments.config, [*FAMILIES[family].settings, *arguments.settings])
    label = ",".join([config.name, *arguments.settings])
    folder = arguments.folder or Path("build", "synth", f"{label}-{arguments.part}")
    folder.mkdir(parents=True, exist_ok=True)
    resources = synthesise(config, to_verilog(config), family, folder, part)
    entry: dict[str, Any] = {
        "config": label, "part": arguments.part, "macs_per_cycle": config.macs_per_cycle, "luts": resources.luts,
        "flip_flops": resources.flip_flops, "multipliers": resources.multipliers, "block_rams": resources.block_rams,
        "lut_levels": resources.deepest.luts,
        "deepest_path": [resources.deepest.start, resources.deepest.end], "hierarchy": resources.hierarchy}
    _out.print(_hierarchy(resources))
    if part:
        routed = place_and_route(part, folder, mhz=arguments.frequency, seed=arguments.seed)
        entry |= {**routed.used, "mhz": round(routed.mhz, 2), "available": routed.available, "seed": arguments.seed,
                  "aimed_at_mhz": arguments.frequency, "critical_path": list(routed.critical)}
    _out.print(table([entry]))
    failures = []
    if arguments.results:
        known = json.loads(arguments.results.read_text()) if arguments.results.exists() else []
        failures += compare(known, [entry])
        save(arguments.results, [entry])
    if arguments.max_levels is not None and resources.deepest.luts > arguments.max_levels:
        failures.append(f"the longest path must have at most {arguments.max_levels} LUTs, not "
                        f"{resources.deepest.luts}: {resources.deepest.start} to {resources.deepest.end}")
    if arguments.min_frequency is not None and entry.get("mhz", 0) < arguments.min_frequency:
        failures.append(f"the clock must reach {arguments.min_frequency:g} MHz, not {entry.get('mhz', 0):g}")
    for failure in failures:
        _out.print(f"worse: {failure}", highlight=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
