"""Measures everything, or the parts that are named: ``python -m bench [PART ...]``, parts as in ``PARTS``."""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from celosia.firmware.model.model import EncoderModel, find_default_model
from celosia.firmware.model.sentences import evaluation_sentences
from celosia.session import quantise

from .compilation import measure_compilation
from .fidelity import KINDS, TARGETS, measure_fidelity, measure_kind
from .fresh import measure_fresh_clone
from .generation import measure_generation
from .layer_norm import measure_layer_norm
from .layers import measure_equality, measure_roofline, measure_speed, measure_utilisation
from .results import Result, save


def fidelity(model, encoder) -> list[Result]:
    """The integer model against the float one, over sentences and other texts that calibration has not seen."""
    found = measure_fidelity(model, encoder, evaluation_sentences())
    work = f"{model.name}, {found.count} sentences, GPTQ"
    results = [Result(f"fidelity_{name}", "golden", work, getattr(found, name), "cosine", TARGETS.get(name))
               for name in ("mean", "p5", "min")]
    for kind, targets in KINDS.items():
        found = measure_kind(model, encoder, kind)
        results += [Result(f"fidelity_{name}", "golden", f"{model.name}, {found.count} of {kind}, GPTQ",
                           getattr(found, name), "cosine", targets.get(name)) for name in ("mean", "min")]
    return results


PARTS = {"roofline": measure_roofline, "utilisation": measure_utilisation, "equality": measure_equality,
         "speed": measure_speed, "fidelity": fidelity, "layer_norm": measure_layer_norm,
         "compilation": measure_compilation,
         "generation": lambda model, encoder: measure_generation(),
         "fresh": lambda model, encoder: measure_fresh_clone()}


def main() -> int:
    """Print the results, write them to bench/results.json; exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; everything by default")
    parts = parser.parse_args().parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            parser.error(f"{part!r} is no part; the parts are {', '.join(PARTS)}")
    model = EncoderModel.from_folder(find_default_model())
    encoder = quantise(model)
    missed = False
    for part in parts:
        results = PARTS[part](model, encoder)
        for result in results:
            print(result, flush=True)
        save(results)
        missed |= any(result.met is False for result in results)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
