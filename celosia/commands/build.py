"""``celosia build``."""

from typing import Annotated

import typer
from celosia.commands.options import ConfigOption, OutputFolderOption, SetOption
from celosia.commands.shared import InputError, err, out
from celosia.generators.configurations import configuration
from celosia.synth.boards import BOARDS, BoardBuild, BoardOptions, build_board
from rich.markup import escape
from rich.table import Table

__all__ = ["build"]


def build(
    board: Annotated[str, typer.Option(help=f"The board: {', '.join(BOARDS)}.")],
    output: OutputFolderOption,
    config: ConfigOption = "ulx3s",
    settings: SetOption = None,
    clock_mhz: Annotated[int, typer.Option(help="Clock of everything.")] = BoardOptions.clock_mhz,
    baud: Annotated[int, typer.Option(help="Bits a second of the serial line.")] = BoardOptions.baud,
    memory_kib: Annotated[int, typer.Option(help="On-chip memory in the place of DRAM.")] = BoardOptions.memory_kib,
    seed: Annotated[int, typer.Option(help="Another placement, which may be faster.")] = BoardOptions.seed,
) -> None:
    """Build a bitstream for a board: the accelerator, memory, and a serial line to a host. Takes many minutes."""
    hardware = configuration(config, settings or ())
    options = BoardOptions(clock_mhz, baud, memory_kib, seed)
    if output.exists() and not output.is_dir():
        raise InputError(f"the output {str(output)!r} must be a folder")
    with err.status(f"building for {escape(board)}") as status:
        made = build_board(board, hardware, output, options, on_stage=status.update)
    _print_build(made)
    if not made.met:
        raise typer.Exit(1)


def _print_build(made: BoardBuild) -> None:
    cells = Table("cells", "used", "of")
    for column in cells.columns[1:]:
        column.justify = "right"
    for name, (used, available) in made.used.items():
        cells.add_row(name, f"{used:,}", f"{available:,}")
    out.print(cells)
    for name, (reached, needed) in made.fmax.items():
        verdict = "met" if reached >= needed else "MISSED: there is no bitstream"
        out.print(f"clock {name}: {reached:.1f} MHz, and {needed:.1f} MHz are needed: {verdict}", highlight=False)
    for path in made.files:
        out.print(f"{path}: {path.stat().st_size:,} bytes", highlight=False, soft_wrap=True)
