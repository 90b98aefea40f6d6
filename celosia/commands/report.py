"""``celosia report``."""

from pathlib import Path
from typing import Annotated

import typer
from celosia.commands.options import takes
from celosia.commands.running import RunOptions, print_report, run_model
from celosia.commands.shared import check_target, write
from celosia.report import report_page

__all__ = ["report"]


@takes(RunOptions)
def report(
    options: RunOptions,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")],
) -> None:
    """Run texts on the simulated RTL, and write an HTML page about it: layers, time, roofline, losses, accuracy."""
    check_target(output)
    found, hardware = run_model(options, observe=True)
    write(output, report_page(found, hardware))
    print_report(found, hardware)
    if not found.bit_exact:
        raise typer.Exit(1)
