"""``celosia run``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from celosia.commands.options import JsonOption, takes
from celosia.commands.running import RunOptions, print_report, run_model
from celosia.commands.shared import InputError, check_target, write, write_json
from celosia.firmware.driver.connections import CONNECTIONS
from celosia.timeline import trace

__all__ = ["run"]


@takes(RunOptions)
def run(
    options: RunOptions,
    transport: Annotated[str, typer.Option(help=f"sim, or a board: {CONNECTIONS}.")] = "sim",
    trace_file: Annotated[Path | None, typer.Option(
        "--trace", help="Write what each engine did when: a trace for Perfetto or Chrome.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Run texts through a model on the simulated RTL or a board, and compare with golden and with the float model."""
    for name, wanted in (("--trace", trace_file is not None), ("--rolled-array", options.rolled_array),
                         ("--profile-guided", options.profile_guided)):
        if wanted and transport != "sim":
            raise InputError(f"{name} needs the simulation, not --transport {transport}")
    check_target(trace_file)
    check_target(json_file)
    found, hardware = run_model(options, transport=transport, observe=trace_file is not None)
    write_json(json_file, found.to_json())
    if trace_file is not None:
        about = {"config": found.config, "model": found.model, "counters": found.counters}
        write(trace_file, json.dumps(trace(found.timelines, about), separators=(",", ":")) + "\n")
    print_report(found, hardware, simulated=transport == "sim")
    if not found.bit_exact:
        raise typer.Exit(1)
