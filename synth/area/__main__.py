"""Counts the gates of a configuration: ``python -m celosia.synth.area --config small``.

Exit codes: 0 done, 1 a figure got worse than the kept one, 2 bad input or a missing tool.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from celosia.generators.configurations import configuration
from celosia.generators.verilog import TOP, to_verilog
from celosia.hdl.config import ConfigError
from rich.console import Console
from rich.table import Table

from ..results import Rule, compare, save
from ..tools import SynthesisError
from .count import Area, areas
from .delay import longest_paths
from .mapping import map_to_gates

__all__ = ["measure"]

_RESULTS = Path("bench", "area.json")
#: What ``--check`` maps: the smallest configurations.
_CHECKED = ("tiny", "small")
#: ABC's choices are a matter of chance.
_RULES = {name: Rule(tolerance=0.02) for name in (
    "nand2", "nand2_with_small_memories", "flip_flops", "small_bits", "memory_bits", "delay")}
_out = Console(width=None if sys.stdout.isatty() else 130)


def measure(verilog: str, top: str, macs: int, label: str, folder: Path) -> dict[str, Any]:
    """The areas and the longest path of a design, as an entry of the results.

    Parameters
    ----------
    verilog, top, folder
        As for :func:`~celosia.synth.area.mapping.map_to_gates`.
    macs : int
        Multiply-accumulates that it does in a cycle.
    label : str
        What it is called.
    """
    modules = map_to_gates(verilog, top, folder)
    blocks = areas(modules, top)
    whole = sum(blocks.values(), Area())
    paths = longest_paths(modules, top)
    longest = next(iter(paths.values()))
    return {
        "config": label, "part": "gates", "macs_per_cycle": macs, **_figures(whole),
        "delay": longest.delay, "longest_path": [longest.start, longest.end],
        "hierarchy": {name: _figures(area) for name, area in sorted(blocks.items())},
        "paths": {name.rpartition(".")[2]: [path.delay, path.start, path.end]
                  for name, path in list(paths.items())[:12]}}


def _figures(area: Area) -> dict[str, float]:
    return {"nand2": area.nand2, "nand2_with_small_memories": area.nand2_with_small_memories,
            "flip_flops": area.flip_flops + area.with_enable, "latches": area.latches,
            "small_bits": area.small_bits, "memory_bits": area.memory_bits}


def _summary(entries: list[dict[str, Any]]) -> Table:
    result = Table("config", "e/MAC", "with small memories", "array e/MAC", "flip-flops/MAC", "small bits",
                   "memory bits", "longest path")
    for column in result.columns[1:]:
        column.justify = "right"
    for entry in entries:
        macs = entry["macs_per_cycle"]
        array = sum(figures["nand2"] for name, figures in entry["hierarchy"].items() if name.endswith("matmul.array"))
        result.add_row(
            entry["config"], f"{entry['nand2'] / macs:,.0f}", f"{entry['nand2_with_small_memories'] / macs:,.0f}",
            f"{array / macs:,.0f}", f"{entry['flip_flops'] / macs:,.1f}", f"{entry['small_bits']:,}",
            f"{entry['memory_bits']:,}", f"{entry['delay']:g}")
    return result


def _blocks(entry: dict[str, Any]) -> Table:
    result = Table("block", "e", "%", "e/MAC", "flip-flops", "latches", "small bits", title="where the area goes")
    for column in result.columns[1:]:
        column.justify = "right"
    for name, figures in sorted(entry["hierarchy"].items(), key=lambda item: -item[1]["nand2"]):
        result.add_row(
            name, f"{figures['nand2']:,.0f}", f"{figures['nand2'] / entry['nand2']:.1%}",
            f"{figures['nand2'] / entry['macs_per_cycle']:,.1f}", f"{figures['flip_flops']:,}",
            f"{figures['latches']:,}", f"{figures['small_bits']:,}")
    return result


def _paths(entry: dict[str, Any]) -> Table:
    result = Table("module", "delay", "from", "to", title="its longest path, in NANDs")
    for name, (delay, start, end) in entry["paths"].items():
        result.add_row(name, f"{delay:g}", start, end)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m celosia.synth.area", description=__doc__)
    parser.add_argument("--config", action="append", help="a named configuration, or a .toml file; may be repeated")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="replace a parameter: lanes=4")
    parser.add_argument("--folder", type=Path, default=Path("build", "area"), help="where logs and netlists go")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="JSON file that keeps the results")
    parser.add_argument("--show", action="store_true", help="only show what --results has")
    parser.add_argument("--check", action="store_true", help=f"fail when a figure of {' or '.join(_CHECKED)} is worse "
                        "than the kept one by 2 %%, and keep nothing")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Map each configuration to gates, print what it takes, and keep it or compare it with what is kept."""
    options = _parser().parse_args(arguments)
    try:
        known = json.loads(options.results.read_text()) if options.results.exists() else []
        if options.show:
            _out.print(_summary(known))
            return 0
        entries = [_measured(name, options) for name in options.config or (_CHECKED if options.check else ("small",))]
    except (ConfigError, SynthesisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _out.print(_summary(entries))
    failures = compare(known, entries, _RULES)
    if options.check:
        kept = {entry["config"] for entry in known}
        failures += [f"{entry['config']}: {options.results} has no figures of it"
                     for entry in entries if entry["config"] not in kept]
    else:
        save(options.results, entries)
    for failure in failures:
        _out.print(f"worse: {failure}", highlight=False)
    return 1 if failures else 0


def _measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    config = configuration(name, [*options.settings, "target=generic"])
    label = ",".join([config.name, *options.settings])
    folder = options.folder / label
    folder.mkdir(parents=True, exist_ok=True)
    entry = measure(to_verilog(config), TOP, config.macs_per_cycle, label, folder)
    if not options.check:
        _out.print(_blocks(entry))
        _out.print(_paths(entry))
    return entry


if __name__ == "__main__":
    sys.exit(main())
