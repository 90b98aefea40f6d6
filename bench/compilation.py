"""How long it takes to compile a program, and how that grows with its instructions."""

import time

from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.machine.layout import build_image
from celosia.firmware.model.model import EncoderModel
from celosia.generators.configurations import configuration
from celosia.sim.golden.parameters import QuantisedEncoder

from .results import Result

__all__ = ["measure_compilation"]

#: Sentences of so many tokens each; the first with its bound, in seconds.
_BATCHES = (([128], 1.0), ([512], None), ([128] * 16, None), ([128] * 64, None))


def measure_compilation(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Seconds for programs of MiniLM on ``base``, the faster of two, and instructions a second."""
    image = build_image(configuration("base"), encoder)
    results = []
    for lengths, bound in _BATCHES:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            program = compile_program(image, lengths)
            seconds.append(time.perf_counter() - start)
        count = len(program.instructions)
        work = f"{len(encoder.layers)} layers, {len(lengths)} sentences, {lengths[0]} tokens, {count} instructions"
        results += [
            Result("compile_seconds", "base", work, round(min(seconds), 3), "s", bound, at_most=True),
            Result("compile_rate", "base", work, round(count / min(seconds)), "instructions a second"),
        ]
    return results
