"""How far the golden kernels are from the functions that they stand for.

``python -m celosia.sim.golden.errors`` prints the table of ``docs/numerics.md``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import kernels, tables
from .parameters import ScalarParameters, SecondParameters

__all__ = ["LAYER_NORM_ROWS", "Measurement", "attention_error", "curve_error", "exponential_error",
           "layer_norm_error", "measurements", "reciprocal_error", "reciprocal_square_root_error",
           "rotation_error"]

#: Kinds of random rows for LayerNorm: deviation and mean on the 16-bit grid, factor of two outlier channels.
LAYER_NORM_ROWS = {
    "centred": (4000.0, 0.0, 1.0),
    "small": (300.0, 0.0, 1.0),
    "mean of 4 deviations": (2000.0, 8000.0, 1.0),
    "mean of 16 deviations": (1000.0, 16000.0, 1.0),
    "outlier channels, 25 times": (600.0, 0.0, 25.0),
}


@dataclass(frozen=True)
class Measurement:
    """The largest error of one kernel over the named inputs, and the bound that a test holds it to."""

    kernel: str
    inputs: str
    error: float
    bound: float
    unit: str


def second_parameters(ratio: NDArray[np.float64], offset: NDArray[np.float64]) -> SecondParameters:
    """Second records for ``x * ratio + offset``."""
    m, s = kernels.fit_multiplier(ratio, 15, 31)
    return SecondParameters(np.rint(np.ldexp(offset, s)).astype(np.int32), m.astype(np.int16),
                            s.astype(np.uint8), np.zeros(len(ratio), np.int8))


def exponential_error(wide: bool = False) -> float:
    """Largest |e / e(0) - 2**(-u / 256)| over all 4096 u."""
    u = np.arange(4096)
    return float(np.abs(kernels.exponential(u, wide) / (4080 if wide else 255) - 2.0 ** (-u / 256)).max())


def curve_error(name: str, width: int | None = None) -> float:
    """Largest error of an activation of :data:`~celosia.sim.golden.tables.CURVES` over all 16-bit inputs; with pieces
    of another ``width``, where that is given."""
    activation = tables.ACTIVATIONS[name]
    table = tables.CURVES[name] if width is None else tables.curve_of(activation, width)
    x = np.arange(-(2**15), 2**15)
    return float(np.abs(kernels.curve(x, table) / 2**10 - [activation(t) for t in x / 256]).max())


def reciprocal_error(seed: int = 0) -> float:
    """Largest relative error of the reciprocal: over all 20-bit sums, and a million of up to 24 bits."""
    z = np.concatenate([np.arange(1, 2**20), np.random.default_rng(seed).integers(2**20, 2**24, 10**6)])
    m, s = kernels.reciprocal(z)
    return float(np.abs(np.ldexp(m, -s) * z / 2**9 - 1).max())


def reciprocal_square_root_error(seed: int = 0) -> float:
    """Largest relative error of 1 / sqrt(V): every V below 2**21, and a million from there to 2**45."""
    v = np.arange(64, 2**21)
    v = np.concatenate([v, np.exp2(np.random.default_rng(seed).uniform(21, 45, 10**6)).astype(np.int64)])
    m, s = kernels.reciprocal_square_root(v)
    return float(np.abs(np.ldexp(m, -s) * np.sqrt(v) / 2**17 - 1).max())


def attention_error(deviation: float, columns: int, seed: int = 0, wide: bool = False) -> tuple[float, float]:
    """Relative RMS error of softmax(scores) . V, over 256 rows of normal scores and 64 channels of normal
    values: of the fixed-point quotient, and of the int8 output; with numerators of 8 bits, or ``wide`` ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, deviation, (256, columns))
    v = np.clip(np.rint(rng.normal(0, 40, (64, columns))), -127, 127).astype(np.int8)
    exact = np.exp(scores - scores.max(axis=1, keepdims=True))
    exact = exact / exact.sum(axis=1, keepdims=True) @ v.T.astype(np.float64)

    steps = 4096  # accumulator steps to a unit of the score
    m, s = kernels.fit_multiplier(256 / math.log(2) / steps)
    acc = np.rint(scores * steps).astype(np.int32)
    e, total = kernels.softmax_numerators(acc, np.ones(columns, bool), ScalarParameters(int(m), int(s)), wide=wide)
    product = kernels.matmul(e.astype(np.int16) if wide else e, v)
    row_m, row_s = kernels.reciprocal(total)
    quotient = kernels.scale1(product, row_m[:, np.newaxis], row_s[:, np.newaxis]) / 2**9
    scale = np.abs(exact).max(axis=0) / 127
    output = kernels.attention_output(product, total, second_parameters(1 / scale / 2**9, np.zeros(64)))

    def relative(y: NDArray[np.float64]) -> float:
        return float(np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)))

    return relative(quotient), relative(output * scale)


def rotation_error(width: int = 64, positions: int = 2048) -> float:
    """Largest change of the length of a pair of columns by the int8 rotation, over all positions, relative."""
    matrices = (kernels.rotation(position, width).astype(np.float64) for position in range(positions))
    lengths = (np.hypot(matrix.diagonal()[::2], matrix.diagonal(-1)[::2]) / 127 for matrix in matrices)
    return max(float(np.abs(length - 1).max()) for length in lengths)


def layer_norm_error(width: int, rows: str, seed: int = 0, rms: bool = False) -> float:
    """Largest distance of the int8 LayerNorm (RMSNorm with ``rms``) from the real one, in steps, over 200 rows of a
    kind of ``LAYER_NORM_ROWS``, with random gamma of either sign and random beta. Rounding alone costs 0.5."""
    rng = np.random.default_rng(seed)
    deviation, mean, outlier = LAYER_NORM_ROWS[rows]
    h = rng.normal(0, deviation, (200, width)) + mean * rng.choice([-1, 1], (200, 1))
    h[:, [width // 3, width // 2]] *= outlier
    h = np.clip(np.rint(h), -(2**15), 2**15 - 1).astype(np.int16)
    gamma = rng.uniform(0.5, 1.5, width) * rng.choice([-1, 1], width)
    beta = rng.normal(0, 0.3, width)

    if rms:
        exact = h / np.sqrt(np.mean(h.astype(np.float64) ** 2, axis=1, keepdims=True)) * gamma + beta
    else:
        exact = (h - h.mean(axis=1, keepdims=True)) / h.std(axis=1, keepdims=True) * gamma + beta
    scale = np.abs(exact).max(axis=0) / 127
    second = second_parameters(gamma * math.sqrt(width) / scale / 2**17, beta / scale)
    y = kernels.layer_norm(h, kernels.RMS_SCALAR if rms else kernels.mean_scalar(width), second)
    return float(np.abs(y - exact / scale).max())


def measurements() -> Iterator[Measurement]:
    """Every line of the table."""
    yield Measurement("exponential", "all 4096 inputs", exponential_error(), 0.002, "of full scale")
    yield Measurement("wide exponential", "all 4096 inputs", exponential_error(wide=True), 0.0003, "of full scale")
    for name in tables.CURVES:
        yield Measurement(f"curve {name}", "all 65536 inputs", curve_error(name), 0.004, "absolute")
    yield Measurement("reciprocal", "all below 2**20, 10**6 up to 2**24", reciprocal_error(), 2e-4, "relative")
    yield Measurement("reciprocal square root", "all below 2**21, 10**6 up to 2**45",
                      reciprocal_square_root_error(), 2e-4, "relative")
    for deviation, bound, wide_bound in (1, 0.015, 0.002), (2, 0.05, 0.005):
        for columns in 64, 128, 256, 512:
            quotient, output = attention_error(deviation, columns)
            inputs = f"scores of deviation {deviation}, {columns} columns"
            yield Measurement("P.V quotient", inputs, quotient, bound, "relative RMS")
            yield Measurement("P.V as int8", inputs, output, bound, "relative RMS")
            quotient, output = attention_error(deviation, columns, wide=True)
            yield Measurement("P.V quotient, wide numerators", inputs, quotient, wide_bound, "relative RMS")
            yield Measurement("P.V as int8, wide numerators", inputs, output, 0.015, "relative RMS")
    for rows in LAYER_NORM_ROWS:
        for norm in "LayerNorm", "RMSNorm":
            worst = max(layer_norm_error(width, rows, rms=norm == "RMSNorm")
                        for width in (32, 64, 100, 384, 768, 1000, 1024))
            yield Measurement(norm, f"rows of 32 to 1024, {rows}", worst, 1, "int8 steps")
    yield Measurement("rotation", "heads of 64, positions to 2048", rotation_error(), 0.006, "relative length")


def main() -> None:
    """Print the table in Markdown."""
    print("| kernel | inputs | error | bound | unit |\n|---|---|---|---|---|")
    for line in measurements():
        print(f"| {line.kernel} | {line.inputs} | {line.error:.3g} | {line.bound:g} | {line.unit} |")


if __name__ == "__main__":
    main()
