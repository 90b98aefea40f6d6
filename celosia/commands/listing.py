"""``celosia listing``."""

from celosia.commands.options import ModelOptions, TokensOption, takes
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.machine.layout import build_image

__all__ = ["listing"]


@takes(ModelOptions)
def listing(options: ModelOptions, tokens: TokensOption) -> None:
    """Print the program that runs a batch of sentences, disassembled."""
    hardware = options.hardware()
    calibration = options.calibration_texts()
    encoder = options.quantised(options.source(), calibration)
    print(compile_program(build_image(hardware, encoder), tokens).listing())
