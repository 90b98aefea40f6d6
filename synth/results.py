"""The results of synthesis: kept in a file, shown as a table, compared with those before."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from .resources import RESOURCES

__all__ = ["FPGA_RULES", "Rule", "compare", "save", "table", "worse"]


@dataclass(frozen=True)
class Rule:
    """How a figure is compared: whether more of it is better, and what share of it is no change."""

    more_is_better: bool = False
    tolerance: float = 0.0


#: Of synthesis for an FPGA. Placement is a matter of chance.
FPGA_RULES = {"mhz": Rule(True, 0.05), "luts": Rule(tolerance=0.02), "flip_flops": Rule(tolerance=0.02),
              "multipliers": Rule(), "block_rams": Rule(), "lut_levels": Rule()}


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["config"], entry["part"]


def save(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write the entries to the JSON file ``path``, replacing those of the same configuration and part."""
    known = json.loads(path.read_text()) if path.exists() else []
    merged = {_key(entry): entry for entry in [*known, *entries]}
    path.write_text(json.dumps([merged[key] for key in sorted(merged)], indent=1) + "\n")


def worse(before: dict[str, Any], after: dict[str, Any], rules: Mapping[str, Rule] = FPGA_RULES) -> list[str]:
    """What got worse between two entries of the same configuration and part, in words."""
    found = []
    for name, rule in rules.items():
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            continue
        change = (old - new if rule.more_is_better else new - old) / max(old, 1e-9)
        if change > rule.tolerance:
            found.append(f"{after['config']} on {after['part']}: {name} was {old:g}, is {new:g}")
    return found


def compare(
    before: list[dict[str, Any]], after: list[dict[str, Any]], rules: Mapping[str, Rule] = FPGA_RULES
) -> list[str]:
    """What got worse in any entry that both lists have."""
    known = {_key(entry): entry for entry in before}
    return [line for entry in after if _key(entry) in known for line in worse(known[_key(entry)], entry, rules)]


def table(entries: list[dict[str, Any]]) -> Table:
    """The entries, one a row."""
    result = Table("config", "part", "LUT", "FF", "DSP", "block RAM", "Fmax MHz", "GMAC/s", "LUT/PE", "LUT levels")
    for column in result.columns[2:]:
        column.justify = "right"

    def share(entry: dict[str, Any], name: str) -> str:
        available = entry.get("available", {}).get(name)
        return f"{entry[name]:,g}" + (f" ({entry[name] / available:.0%})" if available else "")

    for entry in entries:
        mhz = entry.get("mhz")
        result.add_row(
            entry["config"], entry["part"],
            *(share(entry, name) for name in RESOURCES),
            f"{mhz:.1f}" if mhz else "", f"{mhz * entry['macs_per_cycle'] / 1e3:.2f}" if mhz else "",
            f"{entry['luts'] / entry['macs_per_cycle']:.0f}", str(entry["lut_levels"]))
    return result
