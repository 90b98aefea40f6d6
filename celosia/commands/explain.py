"""``celosia explain``."""

from typing import Annotated

import numpy as np
import typer
from celosia.commands.options import ModelOptions, TokensOption, takes
from celosia.commands.shared import err, out, progress
from celosia.firmware.compiler.advice import advice
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.machine.layout import build_image
from celosia.hdl.registers import LOSSES
from celosia.session import simulate
from rich.table import Table

__all__ = ["explain"]


@takes(ModelOptions)
def explain(
    options: ModelOptions,
    tokens: TokensOption,
    measure: Annotated[bool, typer.Option(help="Also run it on the simulated RTL.")] = True,
) -> None:
    """Print how a batch of sentences is scheduled, the cycles that the cycle model predicts, those that the RTL takes,
    and the causes of those that are lost."""
    hardware = options.hardware()
    calibration = options.calibration_texts()
    encoder = options.quantised(options.source(), calibration)
    program = compile_program(build_image(hardware, encoder), tokens)
    for plan in program.plans:
        out.print(plan.describe(), end="", highlight=False, soft_wrap=True)
    predicted, floor = estimate(hardware, program.instructions, program.edges), bound(program)
    out.print(f"{len(program.instructions):,} instructions, {len(program.code):,} bytes", highlight=False)
    out.print(f"predicted {predicted.cycles:,} cycles, {floor / predicted.cycles:.2%} of the roofline; "
              + ", ".join(f"{engine.name.lower()} {cycles / predicted.cycles:.1%}"
                          for engine, cycles in predicted.busy.items()), highlight=False)
    if found := advice(program, predicted.cycles):
        err.print(f"warning: {found}", highlight=False, soft_wrap=True)
    if not measure:
        return
    with err.status("preparing the simulation") as status:
        accelerator = simulate(hardware, on_stage=status.update)
    accelerator.load(encoder)
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, (length, encoder.hidden), dtype=np.int8) for length in tokens]
    with progress() as tell:
        counters = accelerator.run(
            inputs, on_progress=lambda done: tell("running", min(1.0, done / predicted.cycles))).counters
    cycles = counters["cycles"]
    out.print(f"measured {cycles:,} cycles, {floor / cycles:.2%} of the roofline; the prediction is "
              f"{predicted.cycles / cycles - 1:+.2%} off", highlight=False)
    table = Table("cause", "cycles", "share", "in these cycles")
    for name, doc in {"array_active": "a row of A entered the array", **LOSSES}.items():
        table.add_row(name.removeprefix("lost_"), f"{counters[name]:,}", f"{counters[name] / cycles:.2%}", doc)
    out.print(table)
