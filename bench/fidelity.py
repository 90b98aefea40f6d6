"""Fidelity: how close the integer encoder's sentence embeddings come to the float model's.

    python -m bench.fidelity [--json FILE] [--sentences N]
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
from celosia.firmware.model.sentences import calibration_sentences, evaluation_kinds, evaluation_sentences
from celosia.firmware.quantise.calibration import calibration_sequences
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import QuantisedEncoder
from numpy.typing import NDArray

__all__ = ["KINDS", "TARGETS", "Fidelity", "evaluation_ids", "measure_fidelity", "measure_kind"]

#: What the mean and the smallest cosine of the evaluation sentences have to reach.
TARGETS = {"mean": 0.9984, "min": 0.9953}

#: Other texts than sentences, and the targets of each kind's mean and smallest cosine.
KINDS: dict[str, dict[str, float]] = {
    "words": {"min": 0.99},
    "125 tokens": {"mean": 0.996, "min": 0.995},
    "255 tokens": {"mean": 0.996, "min": 0.995},
    "500 tokens": {"mean": 0.996, "min": 0.995},
    "scripts": {"min": 0.95},
    "code": {"min": 0.95},
    "numbers": {"min": 0.95},
    "degenerate": {"min": 0.95},
}

_LONG = 8  # texts of each long kind
_WORDS = 100


@dataclass(frozen=True)
class Fidelity:
    """Cosines between the float and the integer embedding of each text: mean, 5th percentile, smallest, the text that
    has the smallest, and how many texts."""

    mean: float
    p5: float
    min: float
    worst: str
    count: int


def evaluation_ids(model: EncoderModel, kind: str) -> tuple[list[NDArray[np.int64]], list[str]]:
    """The token ids and names of the texts of one of ``KINDS``, none of them used for calibration: one to three words
    of evaluation sentences; these joined, to a number of tokens; or those of :func:`evaluation_kinds`."""
    sentences = evaluation_sentences()
    if kind == "words":
        texts = []
        for index, sentence in enumerate(sentences[:_WORDS]):
            words = sentence.split()
            start = 5 * index % max(len(words) - 2, 1)
            texts.append(" ".join(words[start : start + 1 + index % 3]))
    elif kind.endswith(" tokens"):
        length, whole = int(kind.split()[0]), []
        for index in range(_LONG):
            joined = np.concatenate([model.tokenize(text)[1:-1] for text in sentences[23 * index : 23 * index + 40]])
            ends = model.tokenize(sentences[0])[[0, -1]]
            whole.append(np.concatenate([ends[:1], joined[: length - 2], ends[1:]]))
        return whole, [f"sentences from number {23 * index}" for index in range(_LONG)]
    else:
        texts = evaluation_kinds()[kind]
    return [model.tokenize(text) for text in texts], texts


def _measure(model: EncoderModel, encoder: QuantisedEncoder, ids: Sequence[NDArray[np.int64]], names: Sequence[str],
             progress: Callable[[float], None] | None = None) -> Fidelity:
    cosines = []
    for index, tokens in enumerate(ids):
        x = model.embed(tokens)
        output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"]
        cosines.append(float(model.pool(model.encode(x)) @ model.pool(output * encoder.output_scale)))
        if progress is not None:
            progress((index + 1) / len(ids))
    lowest = int(np.argmin(cosines))
    return Fidelity(float(np.mean(cosines)), float(np.percentile(cosines, 5)), cosines[lowest],
                    names[lowest], len(cosines))


def measure_fidelity(model: EncoderModel, encoder: QuantisedEncoder, sentences: Sequence[str],
                     progress: Callable[[float], None] | None = None) -> Fidelity:
    """Run every sentence through the float model and the golden integer encoder.

    Parameters
    ----------
    progress
        Called with the share that is done, from 0 to 1.
    """
    return _measure(model, encoder, [model.tokenize(sentence) for sentence in sentences], sentences, progress)


def measure_kind(model: EncoderModel, encoder: QuantisedEncoder, kind: str) -> Fidelity:
    """As :func:`measure_fidelity`, the texts of one of ``KINDS``."""
    return _measure(model, encoder, *evaluation_ids(model, kind))


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
