"""LayerNorm fused with the product before it, or apart, over sizes of the accumulators."""

from dataclasses import replace

import numpy as np
from celosia.firmware.model.model import EncoderModel
from celosia.generators.configurations import configuration
from celosia.runner import compare
from celosia.session import simulate
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import QuantisedEncoder

from .layers import text_input
from .results import Result

__all__ = ["measure_layer_norm"]

_WAYS: dict[str, bool | None] = {"fused": False, "apart": True, "chosen": None}


def measure_layer_norm(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Cycles of a layer of MiniLM on ``base`` with 32 to 512 KiB of accumulators, its output equal to golden; not a
    number where it is not."""
    one_layer = replace(encoder, layers=encoder.layers[:1])
    inputs = {tokens: text_input(model, encoder, tokens) for tokens in (128, 32)}
    golden = {tokens: run_encoder(one_layer, x) for tokens, x in inputs.items()}
    results = []
    for size in (32, 64, 128, 256, 512):
        config = configuration("base", [f"accumulator_kib={size}"])
        accelerator = simulate(config, rolled_array=True)
        accelerator.load(one_layer)
        for tokens, x in inputs.items():
            for way, apart in _WAYS.items():
                result = accelerator.run([x], apart=apart)
                wrong, _ = compare(result, [golden[tokens]])
                results.append(Result(f"layer_norm_{way}", f"base,accumulator_kib={size}",
                                      f"MiniLM, 1 layer, {tokens} tokens",
                                      np.nan if wrong else result.counters["cycles"], "cycles"))
    return results
