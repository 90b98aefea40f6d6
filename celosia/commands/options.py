"""Options that several commands have, and groups of options as one object."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from celosia.commands.shared import InputError, err, progress, read_texts
from celosia.firmware.model.model import EncoderModel, find_default_model
from celosia.generators.configurations import configuration
from celosia.hdl.config import AcceleratorConfig
from celosia.session import quantise
from celosia.sim.golden.parameters import QuantisedEncoder

__all__ = ["ConfigOption", "JsonOption", "ModelOptions", "OutputFolderOption", "SetOption", "TokensOption", "takes"]

ConfigOption = Annotated[str, typer.Option(help="A named configuration, or a .toml file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Replace a parameter: rows=8. Repeatable.")]
TokensOption = Annotated[list[int], typer.Option(help="Tokens of a sentence. Repeatable.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]
OutputFolderOption = Annotated[Path, typer.Option("--output", "-o",
                                                  help="Folder to write to; made if it is not there.")]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which accelerator, and which model as its integers; each field is an option."""

    config: ConfigOption = "base"
    settings: SetOption = None
    model: Annotated[Path | None, typer.Option(
        help="A Hugging Face BERT folder; else all-MiniLM-L6-v2 from its package.")] = None
    prompt: Annotated[str | None, typer.Option(
        help="The name of the model's prompt that is put before each text; else its default.")] = None
    calibration: Annotated[Path | None, typer.Option(
        help="A file with a text on each line, to calibrate with; else sentences that come with Celosia.")] = None
    gptq: Annotated[bool, typer.Option(help="Round weights by GPTQ.")] = True

    def hardware(self) -> AcceleratorConfig:
        """The configuration that is meant."""
        return configuration(self.config, self.settings or ())

    def source(self) -> EncoderModel:
        """The float model."""
        return EncoderModel.from_folder(self.model or find_default_model(), prompt_name=self.prompt)

    def calibration_texts(self) -> list[str] | None:
        """The texts of --calibration; None without it."""
        if self.calibration is None:
            return None
        texts = read_texts(self.calibration)
        if not texts:
            raise InputError(f"the file {str(self.calibration)!r} must have at least one text that is not empty")
        return texts

    def quantised(self, source: EncoderModel, calibration: list[str] | None,
                  texts: Sequence[str] = ()) -> QuantisedEncoder:
        """The integers of ``source``, with a bar while they are made. What was chosen for it, and for ``texts``,
        without being asked is printed first."""
        for note in (*source.notes, *source.text_notes(texts)):
            err.print(f"note: {note}", highlight=False, soft_wrap=True)
        with progress() as tell:
            return quantise(source, calibration=calibration, gptq=self.gptq,
                            progress=lambda share: tell("quantising", share))


def takes(group: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameter is one object of the dataclass ``group``: on the command line, and for typer,
    it has the fields of ``group`` as options in its place."""
    hints = get_type_hints(group, include_extras=True)
    options = [inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
                                 annotation=hints[field.name]) for field in fields(group)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def flat(**values: Any) -> None:
            command(group(**{option.name: values.pop(option.name) for option in options}), **values)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
               for parameter in list(inspect.signature(command, eval_str=True).parameters.values())[1:]]
        flat.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        flat.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
        return flat

    return decorate
