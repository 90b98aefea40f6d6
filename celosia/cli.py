"""The command line. Exit codes: 0 done, 1 a check failed, 2 bad input or a missing tool."""

import os

# Two threads of OpenBLAS are slower than one where the cores are shared, many times so under a busy compiler.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from celosia.firmware.compiler.compiler import CompileError, compile_program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.driver.connections import CONNECTIONS
from celosia.firmware.driver.driver import AcceleratorError
from celosia.firmware.driver.transport import TransportError
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.machine.layout import build_image
from celosia.firmware.model.model import EncoderModel, ModelError, find_default_model
from celosia.generators.configurations import configuration, configuration_names
from celosia.generators.files import file_names, files_of
from celosia.generators.formats.constraints import DEFAULT_MHZ, check_frequency
from celosia.generators.formats.documents import GENERATED
from celosia.hdl.config import AcceleratorConfig, ConfigError
from celosia.hdl.registers import LOSSES
from celosia.report import report_page
from celosia.runner import RunReport, run_texts
from celosia.session import cached_verilog, connect, quantise, simulate
from celosia.sim.cache import CacheError
from celosia.sim.verilator import Toolchain, ToolError
from celosia.synth.boards import BOARDS, BoardBuild, BoardError, BoardOptions, build_board
from celosia.synth.tools import SynthesisError
from celosia.timeline import trace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["app", "main"]

app = typer.Typer(help="Integer-only Transformer encoder accelerators: generate them, run models on them.",
                  no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
# A table that is cut to the 80 columns that a pipe is taken for is of no use.
_out = Console(width=None if sys.stdout.isatty() else 120)
_err = Console(stderr=True)

_BAD_INPUT = (AcceleratorError, BoardError, CacheError, CompileError, ConfigError, ModelError, SynthesisError,
              ToolError, TransportError)

ConfigOption = Annotated[str, typer.Option(help="A named configuration, or a .toml file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Replace a parameter: rows=8. Repeatable.")]
TextOption = Annotated[list[str] | None, typer.Option(help="A text. Repeatable; two are also compared.")]
FileOption = Annotated[Path | None, typer.Option(help="A file with a text on each line; else standard input.")]
ModelOption = Annotated[Path | None, typer.Option(
    help="A Hugging Face BERT folder; else all-MiniLM-L6-v2 from its package.")]
CheckOption = Annotated[str, typer.Option(help="What is compared with golden: outputs or full.")]
GptqOption = Annotated[bool, typer.Option(help="Round weights by GPTQ.")]
CompilerOption = Annotated[str | None, typer.Option(help="C++ compiler of the simulation.")]
RolledArrayOption = Annotated[bool, typer.Option(
    "--rolled-array", help="Simulate the array by a faster model, equal in every cycle.")]
ProfileOption = Annotated[bool, typer.Option(
    "--profile-guided", help="Compile the simulation twice: slower to make, faster to run.")]
TokensOption = Annotated[list[int], typer.Option(help="Tokens of a sentence. Repeatable.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


class InputError(ValueError):
    """Something on the command line can't be used."""


def main() -> None:
    """Entry point of the ``celosia`` command."""
    try:
        app()
    except (*_BAD_INPUT, InputError, OSError) as error:
        _err.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _check_target(path: Path) -> None:
    """Refuse a file that can't be written, before the work is done for it."""
    if not path.name or path.is_dir():
        raise InputError(f"the output {str(path)!r} must name a file, not a folder")
    if not path.parent.is_dir():
        raise InputError(f"the folder {str(path.parent)!r} of {path.name!r} must exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"the file {str(path)!r} can't be written: permission denied")


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device or a pipe is written to as it is."""
    temporary = None
    try:
        if path.exists() and not path.is_file():
            path.write_text(text)
            return
        path = path.resolve()  # a link stays, and the file that it names is replaced
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(f"the file {str(path)!r} can't be written: {error.strerror}") from error


def _write_json(path: Path | None, data: Any) -> None:
    if path is not None:
        _write(path, json.dumps(data, indent=1) + "\n")


def _check_json(path: Path | None) -> None:
    if path is not None:
        _check_target(path)


def _check_generated(path: Path) -> None:
    """Refuse to replace a folder, or a page that somebody else wrote."""
    if path.is_dir():
        raise InputError(f"the output {str(path)!r} must name a file, not a folder")
    if path.suffix == ".md" and path.is_file() and GENERATED.encode() not in path.read_bytes():
        raise InputError(f"the page {str(path)!r} must be one that Celosia generated, to be replaced: choose another "
                         "folder")


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar for each stage, on a terminal; a function ``tell(stage, share)``."""
    bars: dict[str, Any] = {}
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
                  TimeElapsedColumn(), console=_err, transient=True,
                  disable=not _err.is_terminal) as progress:

        def tell(stage: str, share: float) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=1.0)
            progress.update(bars[stage], completed=share)

        yield tell


def _texts(text: list[str] | None, file: Path | None) -> list[str]:
    """The texts of --text, --file or, with neither, standard input: one a line."""
    if text and file:
        raise InputError("texts come from --text or from --file, not from both")
    if text:
        texts = text
    elif file:
        try:
            texts = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the file {str(file)!r} can't be read as text: {error}") from error
    else:
        try:
            texts = sys.stdin.buffer.read().decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input can't be read as text: {error}") from error
    for line in texts:
        if not line.isprintable() and any("\ud800" <= character <= "\udfff" for character in line):
            raise InputError(f"a text must be valid UTF-8, not {line!r}")
    texts = [line.strip() for line in texts if line.strip()]
    if not texts:
        raise InputError("there must be at least one text that is not empty")
    return texts


@app.command()
def run(
    text: TextOption = None,
    file: FileOption = None,
    config: ConfigOption = "base",
    settings: SetOption = None,
    model: ModelOption = None,
    check: CheckOption = "outputs",
    gptq: GptqOption = True,
    compiler: CompilerOption = None,
    rolled_array: RolledArrayOption = False,
    profile_guided: ProfileOption = False,
    transport: Annotated[str, typer.Option(help=f"sim, or a board: {CONNECTIONS}.")] = "sim",
    trace_file: Annotated[Path | None, typer.Option(
        "--trace", help="Write what each engine did when: a trace for Perfetto or Chrome.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Run texts through a model on the simulated RTL or a board, and compare with golden and with the float model."""
    for name, wanted in (("--trace", trace_file is not None), ("--rolled-array", rolled_array),
                         ("--profile-guided", profile_guided)):
        if wanted and transport != "sim":
            raise InputError(f"{name} needs the simulation, not --transport {transport}")
    if trace_file is not None:
        _check_target(trace_file)
    found, _ = _run(text, file, config, settings, model, check, gptq, compiler, rolled_array, profile_guided, transport,
                    json_file, observe=trace_file is not None)
    if trace_file is not None:
        about = {"config": found.config, "model": found.model, "counters": found.counters}
        _write(trace_file, json.dumps(trace(found.timelines, about), separators=(",", ":")) + "\n")
    if not found.bit_exact:
        raise typer.Exit(1)


@app.command()
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")],
    text: TextOption = None,
    file: FileOption = None,
    config: ConfigOption = "base",
    settings: SetOption = None,
    model: ModelOption = None,
    check: CheckOption = "outputs",
    gptq: GptqOption = True,
    compiler: CompilerOption = None,
    rolled_array: RolledArrayOption = False,
    profile_guided: ProfileOption = False,
) -> None:
    """Run texts on the simulated RTL, and write an HTML page about it: layers, time, roofline, losses, accuracy."""
    _check_target(output)
    found, hardware = _run(text, file, config, settings, model, check, gptq, compiler, rolled_array, profile_guided,
                           "sim", None, observe=True)
    _write(output, report_page(found, hardware))
    if not found.bit_exact:
        raise typer.Exit(1)


def _run(
    text: list[str] | None, file: Path | None, config: str, settings: list[str] | None, model: Path | None, check: str,
    gptq: bool, compiler: str | None, rolled_array: bool, profile_guided: bool, transport: str, json_file: Path | None,
    observe: bool,
) -> tuple[RunReport, AcceleratorConfig]:
    """What ``run`` and ``report`` have in common; prints the tables."""
    if check not in ("outputs", "full"):
        raise InputError(f"--check must be outputs or full, not {check!r}")
    _check_json(json_file)
    texts = _texts(text, file)
    hardware = configuration(config, settings or ())
    simulated = transport == "sim"
    if simulated:
        Toolchain.find(compiler)
    source = EncoderModel.from_folder(model or find_default_model())
    for line in texts:
        source.tokenize(line, hardware.max_tokens)
    accelerator = None if simulated else connect(transport, hardware)
    with _progress() as tell:
        encoder = quantise(source, gptq=gptq, progress=lambda share: tell("quantising", share))
    if accelerator is None:
        with _err.status("preparing the simulation") as status:
            accelerator = simulate(hardware, compiler=compiler, observed=observe, rolled_array=rolled_array,
                                   profile_guided=profile_guided, on_stage=status.update)
    with _progress() as tell:
        found = run_texts(accelerator, source, encoder, texts, check="full" if check == "full" else "outputs",
                          observe=observe, on_progress=tell)
    _print_report(found, hardware, simulated)
    _write_json(json_file, found.to_json())
    return found, hardware


def _print_report(report: RunReport, config: AcceleratorConfig, simulated: bool) -> None:
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
    _out.print(layers)
    texts = Table("tokens", "cosine with fp32", "text")
    for text in report.texts:
        texts.add_row(str(text.tokens), f"{text.cosine:.5f}", textwrap.shorten(text.text, 60))
    _out.print(texts)
    if report.similarity:
        _out.print(f"similarity of the two texts: {report.similarity[0]:.4f} in fp32, "
                   f"{report.similarity[1]:.4f} on the accelerator")
    verdict = "all equal to golden" if report.bit_exact else f"{len(report.mismatches)} DIFFER FROM GOLDEN"
    _out.print(f"{report.tensors} tensors compared: {verdict}")
    for name in report.mismatches[:10]:
        _out.print(f"  differs: {name}")
    speed = (f"simulated {report.cycles_per_second / 1e3:,.0f} thousand cycles a second" if simulated else
             f"{report.seconds:.2f} s with all transfers")
    _out.print(f"{cycles:,} cycles, {report.roofline_efficiency:.1%} of the roofline "
               f"({report.roofline_bound:,} cycles); {speed}")


@app.command()
def generate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; made if it is not there.")],
    config: ConfigOption = "base",
    settings: SetOption = None,
    frequency: Annotated[float, typer.Option(help="MHz that the timing constraints ask for.")] = DEFAULT_MHZ,
) -> None:
    """Write the Verilog of a configuration, and what hosts and tools need to use it."""
    hardware = configuration(config, settings or ())
    check_frequency(frequency)
    if output.exists() and not output.is_dir():
        raise InputError(f"the output {str(output)!r} must be a folder")
    for name in file_names(hardware):
        _check_generated(output / name)
    with _err.status(f"generating {hardware.name}"):
        texts = files_of(hardware, cached_verilog(hardware), mhz=frequency)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {str(output)!r} can't be made: {error.strerror}") from error
    for name, text in texts.items():
        _write(output / name, text)
        _out.print(f"{output / name}: {len(text):,} bytes", highlight=False, soft_wrap=True)


@app.command()
def build(
    board: Annotated[str, typer.Option(help=f"The board: {', '.join(BOARDS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; made if it is not there.")],
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
    with _err.status(f"building for {board}") as status:
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
    _out.print(cells)
    for name, (reached, needed) in made.fmax.items():
        verdict = "met" if reached >= needed else "MISSED: there is no bitstream"
        _out.print(f"clock {name}: {reached:.1f} MHz, and {needed:.1f} MHz are needed: {verdict}", highlight=False)
    for path in made.files:
        _out.print(f"{path}: {path.stat().st_size:,} bytes", highlight=False, soft_wrap=True)


@app.command()
def configs(json_file: JsonOption = None) -> None:
    """List the named configurations."""
    _check_json(json_file)
    names = configuration_names()
    rows = [configuration(name) for name in names]
    table = Table("name", "array", "lanes", "scratchpad", "accumulators", "bus", "status")
    for c in rows:
        table.add_row(c.name, f"{c.rows} x {c.cols}", str(c.lanes), f"{c.scratchpad_kib} KiB in {c.scratchpad_banks}",
                      f"{c.accumulator_kib} KiB", f"{c.bus_bits} bits", c.status)
    _out.print(table)
    _write_json(json_file, [vars(c) for c in rows])


@app.command()
def listing(
    tokens: TokensOption,
    config: ConfigOption = "base",
    settings: SetOption = None,
    model: ModelOption = None,
) -> None:
    """Print the program that runs a batch of sentences, disassembled."""
    hardware = configuration(config, settings or ())
    source = EncoderModel.from_folder(model or find_default_model())
    with _progress() as tell:
        encoder = quantise(source, progress=lambda share: tell("quantising", share))
    print(compile_program(build_image(hardware, encoder), tokens).listing())


@app.command()
def explain(
    tokens: TokensOption,
    config: ConfigOption = "base",
    settings: SetOption = None,
    model: ModelOption = None,
    measure: Annotated[bool, typer.Option(help="Also run it on the simulated RTL.")] = True,
) -> None:
    """Print how a batch of sentences is scheduled, the cycles that the cycle model predicts, those that the RTL takes,
    and the causes of those that are lost."""
    hardware = configuration(config, settings or ())
    source = EncoderModel.from_folder(model or find_default_model())
    with _progress() as tell:
        encoder = quantise(source, progress=lambda share: tell("quantising", share))
    program = compile_program(build_image(hardware, encoder), tokens)
    for plan in program.plans:
        _out.print(plan.describe(), end="", highlight=False, soft_wrap=True)
    predicted, floor = estimate(hardware, program.instructions, program.edges), bound(program)
    _out.print(f"{len(program.instructions):,} instructions, {len(program.code):,} bytes", highlight=False)
    _out.print(f"predicted {predicted.cycles:,} cycles, {floor / predicted.cycles:.2%} of the roofline; "
               + ", ".join(f"{engine.name.lower()} {cycles / predicted.cycles:.1%}"
                           for engine, cycles in predicted.busy.items()), highlight=False)
    if not measure:
        return
    with _err.status("preparing the simulation") as status:
        accelerator = simulate(hardware, on_stage=status.update)
    accelerator.load(encoder)
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, (length, encoder.hidden), dtype=np.int8) for length in tokens]
    with _progress() as tell:
        counters = accelerator.run(
            inputs, on_progress=lambda done: tell("running", min(1.0, done / predicted.cycles))).counters
    cycles = counters["cycles"]
    _out.print(f"measured {cycles:,} cycles, {floor / cycles:.2%} of the roofline; the prediction is "
               f"{predicted.cycles / cycles - 1:+.2%} off", highlight=False)
    table = Table("cause", "cycles", "share", "in these cycles")
    for name, doc in {"array_active": "a row of A entered the array", **LOSSES}.items():
        table.add_row(name.removeprefix("lost_"), f"{counters[name]:,}", f"{counters[name] / cycles:.2%}", doc)
    _out.print(table)


if __name__ == "__main__":
    main()
