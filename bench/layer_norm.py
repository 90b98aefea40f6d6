"""LayerNorm fused with the product before it, or apart, over sizes of the accumulators: predicted cycles."""

from dataclasses import replace

from celosia.firmware.compiler import compile_program
from celosia.firmware.estimate import estimate
from celosia.firmware.layout import build_image
from celosia.firmware.model import EncoderModel
from celosia.generators.configurations import configuration
from celosia.sim.golden.parameters import QuantisedEncoder

from .results import Result

__all__ = ["measure_layer_norm"]

_WAYS: dict[str, bool | None] = {"fused": False, "apart": True, "chosen": None}


def measure_layer_norm(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Cycles of a layer of MiniLM on ``base`` with 32 to 512 KiB of accumulators, by the cycle model."""
    one_layer = replace(encoder, layers=encoder.layers[:1])
    results = []
    for tokens in (128, 32):
        for size in (32, 64, 128, 256, 512):
            config = configuration("base", [f"accumulator_kib={size}"])
            image = build_image(config, one_layer)
            for way, apart in _WAYS.items():
                program = compile_program(image, [tokens], apart=apart)
                cycles = estimate(config, program.instructions, program.edges).cycles
                results.append(Result(f"layer_norm_{way}", f"base,accumulator_kib={size}",
                                      f"MiniLM, 1 layer, {tokens} tokens, predicted", cycles, "cycles"))
    return results
