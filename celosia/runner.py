"""The main job: texts through a model on an accelerator, compared with golden and with the float model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from celosia.firmware.compiler.advice import advice
from celosia.firmware.compiler.program import KEEPABLE
from celosia.firmware.compiler.roofline import bound, macs
from celosia.firmware.driver.driver import Accelerator, BatchResult
from celosia.firmware.driver.transport import SimulatedTransport
from celosia.firmware.model.model import EncoderModel, ModelError
from celosia.firmware.model.modules import cosine
from celosia.firmware.quantise.quantise import quantise_input
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import QuantisedEncoder
from celosia.timeline import Timeline
from numpy.typing import NDArray

__all__ = ["Check", "LayerRow", "RunReport", "TextRow", "compare", "run_texts"]

#: What is compared with golden: each layer's output, or every tensor that the hardware stores.
Check = Literal["outputs", "full"]

#: Texts that go through the accelerator at one doorbell.
_BATCH = 16


@dataclass(frozen=True)
class LayerRow:
    """A layer's share of a run. ``roofline`` is the bound of a layer over its cycles; busy shares are of its cycles;
    ``cosine`` of its outputs with those of the float model, over all tokens."""

    layer: int
    cycles: int
    roofline: float
    array: float
    load: float
    store: float
    matmul: float
    vector: float
    read_bytes: int
    write_bytes: int
    cosine: float


@dataclass(frozen=True)
class TextRow:
    """A text, its number of tokens, and the cosine of its embedding with that of the float model."""

    text: str
    tokens: int
    cosine: float


@dataclass(frozen=True)
class RunReport:
    """What a run found.

    ``mismatches`` names every tensor that differs from golden; ``tensors`` is how many were compared.
    ``similarity``, of two texts, is that of their embeddings by the model's function: in float, and on the accelerator.
    ``cycles_per_second`` is the speed of a simulation, in cycles of the accelerator per second of the host.
    ``timelines``: of each program that ran, if they were wanted.
    ``notes``: what was chosen without being asked, or left out, when the model was read, which texts were cut, which
    counters stopped; a sentence each.
    ``advice``: which parameter to raise, where a program took far longer than its bound.
    """

    config: str
    model: str
    texts: list[TextRow]
    layers: list[LayerRow]
    mismatches: list[str]
    tensors: int
    cycles: int
    roofline_bound: int
    macs: int
    counters: dict[str, int]
    seconds: float
    similarity: tuple[float, float] | None
    timelines: list[Timeline]
    notes: tuple[str, ...] = ()
    advice: str | None = None

    @property
    def bit_exact(self) -> bool:
        """Every compared tensor equals golden."""
        return not self.mismatches

    @property
    def roofline_efficiency(self) -> float:
        """Cycles that no design of this size can beat, over the cycles from doorbell to interrupt."""
        return self.roofline_bound / self.cycles

    @property
    def cycles_per_second(self) -> float:
        """Speed of a simulation; of a board, with all transfers."""
        return self.cycles / self.seconds

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "bit_exact": self.bit_exact, "cosine": [text.cosine for text in self.texts], "cycles": self.cycles,
            "roofline_efficiency": self.roofline_efficiency, "cycles_per_second": self.cycles_per_second,
            "config": self.config, "model": self.model, "tokens": [text.tokens for text in self.texts],
            "texts": [text.text for text in self.texts], "similarity": self.similarity,
            "tensors_compared": self.tensors, "mismatches": self.mismatches, "roofline_bound": self.roofline_bound,
            "counters": self.counters, "layers": [asdict(layer) for layer in self.layers], "notes": list(self.notes),
            "advice": self.advice,
        }


def compare(result: BatchResult, golden: Sequence[Sequence[dict[str, Any]]]) -> tuple[list[str], int]:
    """Compare every kept tensor with ``golden[sentence][layer][name]``: the names of those that differ, and how
    many were compared."""
    mismatches, compared = [], 0
    for sentence, layers in enumerate(result.tensors):
        for layer, tensors in enumerate(layers):
            for name, found in tensors.items():
                compared += 1
                expected = golden[sentence][layer][name]
                if found.dtype != expected.dtype or not np.array_equal(found, expected):
                    mismatches.append(f"text {sentence}, layer {layer}, {name}")
    return mismatches, compared


class _Agreement:
    """The cosine of each layer's outputs, of all texts as one vector, with those of the float model."""

    def __init__(self, layers: int):
        self._products = np.zeros((layers, 3))

    def add(self, layer: int, a: NDArray[Any], b: NDArray[Any]) -> None:
        self._products[layer] += float((a * b).sum()), float((a * a).sum()), float((b * b).sum())

    def cosines(self) -> list[float]:
        """Of two outputs of zeros it is 1, of one it is 0."""
        return [float(both / np.sqrt(first * second)) if first and second else float(first == second)
                for both, first, second in self._products]


def _layer_rows(results: Sequence[BatchResult], roofline: int, cosines: Sequence[float]) -> list[LayerRow]:
    if not all(result.layers for result in results):
        return []
    rows = []
    layers = len(results[0].layers)
    for layer in range(layers):
        total = {name: sum(result.layers[layer][name] for result in results) for name in results[0].counters}
        cycles = total["cycles"]
        rows.append(LayerRow(
            layer=layer, cycles=cycles, roofline=roofline / layers / cycles, array=total["array_active"] / cycles,
            load=total["load_busy"] / cycles, store=total["store_busy"] / cycles,
            matmul=total["matmul_busy"] / cycles, vector=total["vector_busy"] / cycles,
            read_bytes=total["read_bytes"], write_bytes=total["write_bytes"], cosine=cosines[layer]))
    return rows


def run_texts(
    accelerator: Accelerator,
    model: EncoderModel,
    encoder: QuantisedEncoder,
    texts: Sequence[str],
    *,
    check: Check = "outputs",
    observe: bool = False,
    on_progress: Callable[[str, float], None] | None = None,
) -> RunReport:
    """Run ``texts`` through all layers, 16 at a doorbell, and compare.

    Parameters
    ----------
    accelerator, model, encoder
        ``encoder`` is the quantised ``model``; it is loaded into the accelerator here.
    check
        ``"full"`` also stores and compares every intermediate tensor; that costs stores.
    observe
        Whether to record a timeline; the accelerator must be a simulation that was made with ``observed``.
    on_progress
        Told the stage and the share of it that is done.

    Raises
    ------
    ModelError
        When a text has too many tokens.
    CompileError, AcceleratorError
        When the model does not fit the configuration, or the accelerator stops.
    """
    if isinstance(texts, str) or not texts:
        raise ModelError(f"there must be a sequence of at least one text, not {texts!r:.40}")
    tell = on_progress or (lambda stage, share: None)
    tokens = [model.tokenize(text, accelerator.config.max_tokens) for text in texts]
    floats = [model.embed(ids) for ids in tokens]
    inputs = [quantise_input(encoder, x) for x in floats]
    accelerator.load(encoder)
    keep = KEEPABLE if check == "full" else ("output",)

    results, seconds, roofline = [], 0.0, 0
    timelines: list[Timeline] = []
    simulation = accelerator.transport.simulation if isinstance(accelerator.transport, SimulatedTransport) else None
    if observe and simulation is None:
        raise ValueError("a timeline needs a simulated accelerator")
    for first in range(0, len(inputs), _BATCH):
        batch = inputs[first:first + _BATCH]
        expected = bound(accelerator.program([len(x) for x in batch], keep))
        roofline += expected

        def report(done: int, first: int = first, part: int = len(batch), expected: int = expected) -> None:
            tell("running", (first + part * min(1.0, done / expected)) / len(inputs))

        if observe and simulation is not None:
            simulation.observe()
        start = time.perf_counter()
        results.append(accelerator.run(batch, keep=keep, on_progress=report))
        seconds += time.perf_counter() - start
        if observe and simulation is not None:
            timelines.append(Timeline(simulation.observations, results[-1].program.instructions))
            simulation.observe(False)
    tell("running", 1.0)

    mismatches: list[str] = []
    compared, rows, embeddings = 0, [], []
    agreement = _Agreement(len(encoder.layers))
    outputs = [output for result in results for output in result.outputs]
    for index, (text, x, output) in enumerate(zip(texts, floats, outputs, strict=True)):
        result, position = results[index // _BATCH], index % _BATCH
        single = BatchResult([output], [result.tensors[position]], result.counters, [], result.program)
        wrong, count = compare(single, [run_encoder(encoder, inputs[index])])
        mismatches += [name.replace("text 0", f"text {index}") for name in wrong]
        compared += count
        outputs_in_float = model.encode_layers(x)
        for layer, in_float in zip(range(len(encoder.layers)), outputs_in_float, strict=False):
            integers = single.tensors[0][layer]["output"].astype(np.float64)
            agreement.add(layer, in_float, integers * encoder.output_scale_of(layer))
        in_float, on_chip = model.pool(outputs_in_float[-1]), model.pool(output * encoder.output_scale)
        embeddings.append((in_float, on_chip))
        rows.append(TextRow(text, len(x), cosine(in_float, on_chip)))
        tell("comparing with golden and fp32", (index + 1) / len(texts))
    similarity = None
    if len(texts) == 2:
        (a, a8), (b, b8) = embeddings
        similarity = model.similarity(a, b), model.similarity(a8, b8)
    counters = {name: sum(result.counters[name] for result in results) for name in results[0].counters}
    stopped = sorted({name for result in results for name in result.stopped})
    stops = [f"the counter {name} stopped, and shows less than there was: raise counter_bits, which is "
             f"{accelerator.config.counter_bits}" for name in stopped]
    return RunReport(
        config=accelerator.config.name, model=model.name, texts=rows,
        layers=_layer_rows(results, roofline, agreement.cosines()), mismatches=mismatches, tensors=compared,
        cycles=counters["cycles"], roofline_bound=roofline, macs=sum(macs(result.program) for result in results),
        counters=counters, seconds=seconds, similarity=similarity, timelines=timelines,
        notes=(*model.notes, *model.text_notes(texts), *stops),
        advice=next(filter(None, (advice(result.program, result.counters["cycles"]) for result in results)), None))
