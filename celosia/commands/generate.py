"""``celosia generate``."""

from pathlib import Path
from typing import Annotated

import typer
from celosia.commands.options import ConfigOption, OutputFolderOption, SetOption
from celosia.commands.shared import InputError, err, out, write
from celosia.generators.configurations import configuration
from celosia.generators.files import file_names, files_of
from celosia.generators.formats.constraints import DEFAULT_MHZ, check_frequency
from celosia.generators.formats.documents import GENERATED
from celosia.generators.prefix import check_prefix, default_prefix
from celosia.session import cached_verilog

__all__ = ["generate"]


def _check_generated(path: Path) -> None:
    """Refuse to replace a folder, or a page that somebody else wrote."""
    if path.is_dir():
        raise InputError(f"the output {str(path)!r} must name a file, not a folder")
    if path.suffix == ".md" and path.is_file() and GENERATED.encode() not in path.read_bytes():
        raise InputError(f"the page {str(path)!r} must be one that Celosia generated, to be replaced: choose another "
                         "folder")


def generate(
    output: OutputFolderOption,
    config: ConfigOption = "base",
    settings: SetOption = None,
    prefix: Annotated[str | None, typer.Option(
        help="The top module's name, and how all others begin; else celosia_ and the configuration's.")] = None,
    frequency: Annotated[float, typer.Option(help="MHz that the timing constraints ask for.")] = DEFAULT_MHZ,
) -> None:
    """Write the Verilog of a configuration, and what hosts and tools need to use it."""
    hardware = configuration(config, settings or ())
    if prefix is None:
        prefix = default_prefix(hardware)
    check_prefix(prefix)
    check_frequency(frequency)
    if output.exists() and not output.is_dir():
        raise InputError(f"the output {str(output)!r} must be a folder")
    for name in file_names(hardware, prefix=prefix):
        _check_generated(output / name)
    with err.status(f"generating {hardware.name}"):
        texts = files_of(hardware, cached_verilog(hardware), prefix=prefix, mhz=frequency)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {str(output)!r} can't be made: {error.strerror}") from error
    for name, text in texts.items():
        write(output / name, text)
        out.print(f"{output / name}: {len(text):,} bytes", highlight=False, soft_wrap=True)
