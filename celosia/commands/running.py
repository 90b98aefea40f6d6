"""What ``run`` and ``report`` have in common: texts through a model on an accelerator, and the tables about it."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from celosia.commands.options import ModelOptions
from celosia.commands.shared import InputError, err, out, progress, read_texts
from celosia.hdl.config import AcceleratorConfig
from celosia.runner import RunReport, run_texts
from celosia.session import connect, simulate
from celosia.sim.verilator import Toolchain
from rich.table import Table

__all__ = ["RunOptions", "print_report", "run_model"]


@dataclass(frozen=True, kw_only=True)
class RunOptions(ModelOptions):
    """What is run, and how; each field is an option."""

    text: Annotated[list[str] | None, typer.Option(help="A text. Repeatable; two are also compared.")] = None
    file: Annotated[Path | None, typer.Option(help="A file with a text on each line; else standard input.")] = None
    check: Annotated[str, typer.Option(help="What is compared with golden: outputs or full.")] = "outputs"
    compiler: Annotated[str | None, typer.Option(help="C++ compiler of the simulation.")] = None
    rolled_array: Annotated[bool, typer.Option(
        "--rolled-array", help="Simulate the array by a faster model, equal in every cycle.")] = False
    profile_guided: Annotated[bool, typer.Option(
        "--profile-guided", help="Compile the simulation twice: slower to make, faster to run.")] = False

    def texts(self) -> list[str]:
        """The texts of --text, --file or, with neither, standard input: one a line."""
        if self.text and self.file:
            raise InputError("texts come from --text or from --file, not from both")
        for line in self.text or ():
            if any("\ud800" <= character <= "\udfff" for character in line):
                raise InputError(f"a text must be valid UTF-8, not {line!r}")
        texts = [line.strip() for line in self.text if line.strip()] if self.text else read_texts(self.file)
        if not texts:
            raise InputError("there must be at least one text that is not empty")
        return texts


def run_model(
    options: RunOptions, *, transport: str = "sim", observe: bool = False,
) -> tuple[RunReport, AcceleratorConfig]:
    """Run the texts; with ``observe``, the report has timelines. Files about it are written before it is printed."""
    if options.check not in ("outputs", "full"):
        raise InputError(f"--check must be outputs or full, not {options.check!r}")
    texts = options.texts()
    calibration = options.calibration_texts()
    hardware = options.hardware()
    simulated = transport == "sim"
    if simulated:
        Toolchain.find(options.compiler)
    source = options.source()
    for line in texts:
        source.tokenize(line, hardware.max_tokens)
    accelerator = None if simulated else connect(transport, hardware)
    encoder = options.quantised(source, calibration, texts)
    if accelerator is None:
        with err.status("preparing the simulation") as status:
            accelerator = simulate(hardware, compiler=options.compiler, observed=observe,
                                   rolled_array=options.rolled_array, profile_guided=options.profile_guided,
                                   on_stage=status.update)
    with progress() as tell:
        found = run_texts(accelerator, source, encoder, texts,
                          check="full" if options.check == "full" else "outputs", observe=observe, on_progress=tell)
    return found, hardware


def print_report(report: RunReport, config: AcceleratorConfig, *, simulated: bool = True) -> None:
    """Print the tables about a run."""
    layers = Table("layer", "cycles", "roofline", "array", "load", "store", "matmul", "vector", "bytes read",
                   "bytes written", title=f"{report.model} on {report.config} ({config.rows} x {config.cols})")
    for column in layers.columns:
        column.justify = "right"
    for row in report.layers:
        shares = (row.roofline, row.array, row.load, row.store, row.matmul, row.vector)
        layers.add_row(str(row.layer), f"{row.cycles:,}", *(f"{share:.1%}" for share in shares),
                       f"{row.read_bytes:,}", f"{row.write_bytes:,}")
    counters, cycles = report.counters, report.cycles
    busy = [counters[name] / cycles for name in (
        "array_active", "load_busy", "store_busy", "matmul_busy", "vector_busy")]
    layers.add_section()
    layers.add_row("all", f"{cycles:,}", *(f"{share:.1%}" for share in (report.roofline_efficiency, *busy)),
                   f"{counters['read_bytes']:,}", f"{counters['write_bytes']:,}")
    out.print(layers)
    texts = Table("tokens", "cosine with fp32", "text")
    for text in report.texts:
        texts.add_row(str(text.tokens), f"{text.cosine:.5f}", textwrap.shorten(text.text, 60))
    out.print(texts)
    if report.similarity:
        out.print(f"similarity of the two texts: {report.similarity[0]:.4f} in fp32, "
                  f"{report.similarity[1]:.4f} on the accelerator")
    verdict = "all equal to golden" if report.bit_exact else f"{len(report.mismatches)} DIFFER FROM GOLDEN"
    out.print(f"{report.tensors} tensors compared: {verdict}")
    for name in report.mismatches[:10]:
        out.print(f"  differs: {name}")
    if report.advice:
        err.print(f"warning: {report.advice}", highlight=False, soft_wrap=True)
    speed = (f"simulated {report.cycles_per_second / 1e3:,.0f} thousand cycles a second" if simulated else
             f"{report.seconds:.2f} s with all transfers")
    out.print(f"{cycles:,} cycles, {report.roofline_efficiency:.1%} of the roofline "
              f"({report.roofline_bound:,} cycles); {speed}")
