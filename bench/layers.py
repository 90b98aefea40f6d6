"""Real layers on the RTL: roofline efficiency, equality with golden, speed of the simulation."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.program import KEEPABLE, Program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.machine.geometry import ceil_div
from celosia.firmware.machine.layout import build_image
from celosia.firmware.model.model import EncoderModel
from celosia.firmware.model.sentences import evaluation_sentences
from celosia.firmware.quantise.quantise import quantise_input
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.generators.configurations import configuration
from celosia.hdl.isa import Opcode
from celosia.hdl.registers import LOSSES
from celosia.runner import compare
from celosia.session import simulate
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import QuantisedEncoder

from .bare_array import bare_array_rate
from .results import Result

__all__ = ["measure_equality", "measure_roofline", "measure_speed", "measure_utilisation"]


def text_input(model: EncoderModel, encoder: QuantisedEncoder, tokens: int) -> np.ndarray:
    """Real text of exactly ``tokens`` tokens as int8 [tokens, d]: sentences one after the other, cut."""
    ids = np.concatenate([model.tokenize(sentence)[1:-1] for sentence in evaluation_sentences()[:60]])
    first, last = model.tokenize("a")[[0, -1]]
    ids = np.concatenate([[first], ids[:max(tokens - 2, 0)], [last]])[:tokens]
    return quantise_input(encoder, model.embed(ids))


@dataclass(frozen=True)
class _Work:
    """A row of the roofline table: sentences of ``lengths`` tokens through MiniLM, or, where ``shape`` gives its hidden
    and FFN widths, its heads and its layers, through a random encoder."""

    name: str
    lengths: Sequence[int]
    target: float
    config: str = "base"
    settings: Sequence[str] = ()
    shape: tuple[int, int, int, int] | None = None

    def layers(self, encoder: QuantisedEncoder) -> QuantisedEncoder:
        """``encoder``, which is MiniLM, or the random one."""
        return encoder if self.shape is None else random_encoder(*self.shape)

    @property
    def label(self) -> str:
        return ",".join([self.config, *self.settings])


#: Sixteen sentences of 5 to 60 tokens, in no order.
_BATCH = (60, 5, 34, 12, 49, 23, 8, 56, 16, 41, 27, 19, 52, 38, 30, 45)

_WORKS = (
    _Work("MiniLM, 6 layers, 128 tokens", (128,), 0.992),
    _Work("MiniLM, 6 layers, 32 tokens", (32,), 0.975),
    _Work("MiniLM, 6 layers, 8 tokens", (8,), 0.96),
    _Work("MiniLM, 6 layers, 1 token", (1,), 0.94),
    _Work("MiniLM, 6 layers, 4 tokens", (4,), 0.95),
    _Work("MiniLM, 6 layers, 16 tokens", (16,), 0.96),
    _Work("MiniLM, 6 layers, 2 sentences, 10 and 8 tokens", (10, 8), 0.92),
    _Work("MiniLM, 6 layers, 16 sentences, 5 to 60 tokens", _BATCH, 0.975),
    _Work("BERT-mini shape, 4 layers, 4 tokens", (4,), 0.92, shape=(256, 1024, 4, 4)),
    _Work("BERT-tiny shape, 2 layers, 16 tokens", (16,), 0.85, shape=(128, 512, 2, 2)),
    _Work("BERT-tiny shape, 2 layers, 128 tokens", (128,), 0.97, shape=(128, 512, 2, 2)),
    _Work("TinyBERT shape, 4 layers, 128 tokens", (128,), 0.92, shape=(312, 1200, 12, 4)),
    _Work("width 100, 4 heads, FFN 200, 1 layer, 65 tokens", (65,), 0.75, shape=(100, 200, 4, 1)),
    _Work("BERT-Base shape, 1 layer, 128 tokens", (128,), 0.99, shape=(768, 3072, 12, 1)),
    _Work("BERT-Base shape, 1 layer, 512 tokens", (512,), 0.992, shape=(768, 3072, 12, 1)),
    _Work("BERT-Large shape, 1 layer, 128 tokens", (128,), 0.97, shape=(1024, 4096, 16, 1)),
    _Work("MiniLM, 6 layers, 128 tokens", (128,), 0.98, "small"),
    _Work("MiniLM, 6 layers, 128 tokens", (128,), 0.98, "large"),
    _Work("MiniLM, 6 layers, 128 tokens", (128,), 0.94, settings=("scratchpad_kib=64", "accumulator_kib=64")),
)


def measure_roofline(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Roofline efficiency, doorbell to interrupt, every layer's output equal to golden; the cycles that are lost, by
    the hardware's counters, as shares of all; and how far off the cycle model is."""
    results = []
    for work in _WORKS:
        config = configuration(work.config, work.settings)
        accelerator = simulate(config)
        layers = work.layers(encoder)
        if work.shape is None:
            inputs = [text_input(model, encoder, length) for length in work.lengths]
        else:
            rng = np.random.default_rng(1)
            inputs = [random_tokens(rng, length, work.shape[0]) for length in work.lengths]
        accelerator.load(layers)
        result = accelerator.run(inputs)
        wrong, _ = compare(result, [run_encoder(layers, x) for x in inputs])
        counters = result.counters
        cycles = counters["cycles"]
        efficiency = 0.0 if wrong else bound(result.program) / cycles
        predicted = estimate(config, result.program.instructions, result.program.edges).cycles

        def row(name: str, value: float, unit: str, target: float | None = None, at_most: bool = False,
                work: _Work = work) -> Result:
            return Result(name, work.label, work.name, value, unit, target, at_most)

        results += [
            row("roofline_efficiency", efficiency, "of the roofline", work.target),
            row("cycles", cycles, "cycles"),
            row("prediction_error", abs(predicted / cycles - 1), "of the cycles", 0.02, at_most=True),
            *(row(name, counters[name] / cycles, "of the cycles") for name in LOSSES),
            row("cycles_accounted_for", (counters["array_active"] + sum(counters[name] for name in LOSSES)) / cycles,
                "of the cycles", 1.0),
        ]
    return results


def _without_waits(program: Program) -> int:
    """Cycles of ``program`` if no engine ever waited: those in which its tiles, with what pads them, hold the array, or
    its loads the bus."""
    config = program.geometry.config
    fields = {opcode: [i.fields for i in program.instructions if i.opcode is opcode] for opcode in Opcode}
    array = sum(max(f["m"], config.cols) * f["n_tiles"] * f["k_tiles"] for f in fields[Opcode.MATMUL])
    loaded = sum(f["count"] * f["words"] for f in fields[Opcode.LOAD]) * config.word_bytes + len(program.code)
    return max(array, ceil_div(loaded, config.bus_bytes))


def measure_utilisation(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """The roofline table as the cycle model predicts it, in seconds and without simulation; and what it would be if
    nothing ever waited: what is missing there is padding, or is loaded more than once."""
    results = []
    for work in _WORKS:
        config = configuration(work.config, work.settings)
        program = compile_program(build_image(config, work.layers(encoder)), work.lengths)
        cycles = estimate(config, program.instructions, program.edges).cycles
        for name, value in (("predicted_efficiency", cycles), ("efficiency_without_waits", _without_waits(program))):
            results.append(Result(name, work.label, work.name, bound(program) / value, "of the roofline"))
    return results


def _equal(accelerator: Accelerator, encoder: QuantisedEncoder, inputs: Sequence[np.ndarray],
           masks: Sequence[np.ndarray | None]) -> tuple[int, int]:
    """Run a batch and compare every tensor: how many are equal, of how many."""
    accelerator.load(encoder)
    result = accelerator.run(inputs, masks, keep=KEEPABLE)
    wrong, compared = compare(result, [run_encoder(encoder, x, mask) for x, mask in zip(inputs, masks, strict=True)])
    return compared - len(wrong), compared


def measure_equality(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Every stored tensor of every layer against golden: ``base`` with eight sentences of different length, one of
    them with a mask, the other configurations with one layer."""
    results = []
    for name, layers, lengths in (
        ("base", len(encoder.layers), (5, 9, 16, 17, 31, 40, 64, 77)), ("tiny", 1, (9,)), ("small", 1, (9, 20)),
        ("ulx3s", 1, (9, 20)), ("rect", 1, (9, 20)), ("large", 1, (33, 20)),
    ):
        part = replace(encoder, layers=encoder.layers[:layers])
        inputs = [text_input(model, encoder, length) for length in lengths]
        masks: list[np.ndarray | None] = [None] * len(inputs)
        masks[-1] = np.arange(lengths[-1]) < lengths[-1] * 2 // 3
        equal, compared = _equal(simulate(name), part, inputs, masks)
        work = f"MiniLM, {layers} layers, {len(lengths)} sentences, {compared} tensors"
        results.append(Result("tensors_equal_to_golden", name, work, equal / compared, "of the tensors", 1.0))
    return results


#: Cycles a CPU second that ``base`` must reach with a compiler, in the fastest of ``_SIMULATIONS``.
_SPEEDS = {"g++": 600_000, "clang++": 1_000_000}
#: And of what the generated array reaches alone.
_SHARE = 0.7
#: The simulations that are compared, the fastest last: what :func:`~celosia.session.simulate` is told.
_SIMULATIONS: dict[str, dict[str, bool]] = {
    "generated array": {},
    "rolled array": {"rolled_array": True},
    "rolled array, profile-guided": {"rolled_array": True, "profile_guided": True},
}


def measure_speed(model: EncoderModel, encoder: QuantisedEncoder) -> list[Result]:
    """Cycles a CPU second of ``base`` while it runs a real layer, simulated in each way, and of the generated array
    alone, in turns, with each C++ compiler that is installed; and how long a layer of BERT-Base's shape takes."""
    layer, x = replace(encoder, layers=encoder.layers[:1]), text_input(model, encoder, 128)
    results = []
    for compiler, target in _SPEEDS.items():
        if shutil.which(compiler) is None:
            continue
        rates, alone = _speeds(layer, x, compiler)
        results.append(Result(
            "simulation_speed_of_array", "base", f"generated array alone, {compiler}", alone, "cycles a second"))
        for name, rate in rates.items():
            fastest = name == list(_SIMULATIONS)[-1]
            work = f"MiniLM, 1 layer, 128 tokens, {name}, {compiler}"
            results += [
                Result("simulation_speed", "base", work, rate, "cycles a second", target if fastest else None),
                Result("simulation_speed_ratio", "base", work, rate / alone, "of the generated array alone",
                       _SHARE if fastest else None),
            ]
    for name, options in _SIMULATIONS.items():
        accelerator = simulate("base", compiler="g++", **options)
        accelerator.load(random_encoder(768, 3072, 12))
        start = time.process_time()
        accelerator.run([random_tokens(np.random.default_rng(1), 128, 768)])
        work = f"BERT-Base shape, 1 layer, 128 tokens, {name}, g++"
        results.append(Result("simulation_time", "base", work, time.process_time() - start, "s", 10, at_most=True))
    return results


def _speeds(layer: QuantisedEncoder, x: np.ndarray, compiler: str) -> tuple[dict[str, float], float]:
    """Cycles a CPU second of ``base`` while it runs ``layer``, for each of ``_SIMULATIONS``; and of the generated array
    alone. The fastest of five, taken in turns: whatever else the machine does only makes a run slower."""
    accelerators = {
        name: simulate("base", compiler=compiler, **options) for name, options in _SIMULATIONS.items()}
    rates: dict[str, list[float]] = {name: [] for name in accelerators}
    for accelerator in accelerators.values():
        accelerator.load(layer)
        accelerator.run([x])
    alone = []
    for _ in range(5):
        for name, accelerator in accelerators.items():
            start = time.process_time()
            cycles = accelerator.run([x]).counters["cycles"]
            rates[name].append(cycles / (time.process_time() - start))
        alone.append(bare_array_rate(configuration("base"), compiler, seconds=1.0))
    return {name: max(values) for name, values in rates.items()}, max(alone)
