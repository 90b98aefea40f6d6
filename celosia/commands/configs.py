"""``celosia configs``."""

from celosia.commands.options import JsonOption
from celosia.commands.shared import check_target, out, write_json
from celosia.generators.configurations import configuration, configuration_names
from rich.table import Table

__all__ = ["configs"]


def configs(json_file: JsonOption = None) -> None:
    """List the named configurations."""
    check_target(json_file)
    rows = [configuration(name) for name in configuration_names()]
    write_json(json_file, [vars(c) for c in rows])
    table = Table("name", "array", "lanes", "scratchpad", "accumulators", "bus", "status")
    for c in rows:
        table.add_row(c.name, f"{c.rows} x {c.cols}", str(c.lanes), f"{c.scratchpad_kib} KiB in {c.scratchpad_banks}",
                      f"{c.accumulator_kib} KiB", f"{c.bus_bits} bits", c.status)
    out.print(table)
