"""Fidelity: how close the integer encoder's sentence embeddings come to the float model's.

    python bench/fidelity.py [--json FILE] [--sentences N]
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from celosia.firmware.model.model import EncoderModel, find_default_model
from celosia.firmware.model.sentences import calibration_sentences, evaluation_sentences
from celosia.firmware.quantise.calibration import calibration_sequences
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import QuantisedEncoder

__all__ = ["TARGETS", "Fidelity", "measure_fidelity"]

#: What the mean and the smallest cosine have to reach.
TARGETS = {"mean": 0.997, "min": 0.994}


@dataclass(frozen=True)
class Fidelity:
    """Cosines between the float and the integer embedding of each sentence: mean, 5th percentile, smallest,
    the sentence that has the smallest, and how many sentences."""

    mean: float
    p5: float
    min: float
    worst: str
    count: int


def measure_fidelity(model: EncoderModel, encoder: QuantisedEncoder, sentences: Sequence[str],
                     progress: Callable[[float], None] | None = None) -> Fidelity:
    """Run every sentence through the float model and the golden integer encoder.

    Parameters
    ----------
    progress
        Called with the share that is done, from 0 to 1.
    """
    cosines = []
    for index, sentence in enumerate(sentences):
        x = model.embed(model.tokenize(sentence))
        output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"]
        cosines.append(float(model.pool(model.encode(x)) @ model.pool(output * encoder.output_scale)))
        if progress is not None:
            progress((index + 1) / len(sentences))
    lowest = int(np.argmin(cosines))
    return Fidelity(float(np.mean(cosines)), float(np.percentile(cosines, 5)), cosines[lowest],
                    sentences[lowest], len(cosines))


def main() -> int:
    """Measure with and without GPTQ; exit code 1 when GPTQ, the default, misses a target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--sentences", type=int, help="evaluate only the first N sentences")
    options = parser.parse_args()
    model = EncoderModel.from_folder(find_default_model())
    sequences = calibration_sequences(model, calibration_sentences())
    results: list[dict[str, Any]] = []
    for rounding in ("nearest", "gptq"):
        start = time.perf_counter()
        encoder = quantise_encoder(model, sequences, gptq=rounding == "gptq")
        seconds = time.perf_counter() - start
        found = measure_fidelity(model, encoder, evaluation_sentences()[: options.sentences])
        print(f"{rounding:8} mean {found.mean:.5f}  p5 {found.p5:.5f}  min {found.min:.5f}  over "
              f"{found.count} sentences; quantised in {seconds:.1f} s; worst: {found.worst}", flush=True)
        for name in ("mean", "p5", "min"):
            value, target = getattr(found, name), TARGETS.get(name) if rounding == "gptq" else None
            results.append({
                "name": f"fidelity_{name}_{rounding}", "config": "golden",
                "work": f"{model.name}, {found.count} sentences", "value": value, "unit": "cosine",
                "target": target, "met": None if target is None else value >= target})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(result["met"] is not False for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
