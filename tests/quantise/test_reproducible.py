"""The same model and calibration give the same integers whatever library, thread count or CPU does the sums."""

import hashlib
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel
from celosia.firmware.quantise import exact
from celosia.firmware.quantise.gptq import covariance
from celosia.firmware.quantise.quantise import quantise_encoder
from celosia.firmware.quantise.store import _to_arrays
from celosia.sim.golden.reference import exact_gelu
from numpy.testing import assert_allclose, assert_array_equal

from tests import tiny_models

ROOT = Path(__file__).parents[2]


def checksum() -> str:
    """Of all integers of a model that is wide enough for every block of every sum, with outlier channels."""
    arrays = tiny_models.arrays(hidden=96, ffn=200, embeddings=False)
    for index in range(2):
        arrays[f"encoder.layer.{index}.output.LayerNorm.weight"][[3, 50]] *= 20
    model = EncoderModel.from_arrays(arrays, heads=3)
    rng = np.random.default_rng(4)
    sequences = [rng.normal(size=(1 + 5 * i % 70, 96)).astype(np.float32) for i in range(64)]
    encoder = quantise_encoder(model, sequences, gptq=True)
    digest = hashlib.sha256()
    for name, array in sorted(_to_arrays(encoder).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def surroundings() -> dict[str, dict[str, str]]:
    """Environment variables by name: threads, BLAS kernels that this CPU has, and NumPy without its SIMD loops."""
    found = {"one thread": {"OPENBLAS_NUM_THREADS": "1"}, "two threads": {"OPENBLAS_NUM_THREADS": "2"}}
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    if simd:
        found["NumPy's plain loops"] = {"NPY_DISABLE_CPU_FEATURES": " ".join(simd)}
    if platform.machine() in ("x86_64", "AMD64"):
        features = np._core._multiarray_umath.__cpu_features__
        found["kernels of Prescott"] = {"OPENBLAS_CORETYPE": "Prescott"}
        if features.get("AVX2"):
            found["kernels of Haswell"] = {"OPENBLAS_CORETYPE": "Haswell"}
        if features.get("AVX512F") and features.get("AVX512DQ"):
            found["kernels of SkylakeX"] = {"OPENBLAS_CORETYPE": "SkylakeX"}
    return found


@pytest.fixture(scope="module")
def expected() -> str:
    return checksum()


@pytest.mark.parametrize("name", surroundings())
def test_the_integers_are_the_same_everywhere(name: str, expected: str):
    program = "from tests.quantise.test_reproducible import checksum; print(checksum())"
    # A variable of the caller's must not decide which kernels are compared.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENBLAS", "NPY_"))}
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment | surroundings()[name],
                           capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected


def test_sums_do_not_depend_on_their_order():
    rng = np.random.default_rng(6)
    a, b = (rng.normal(size=(n, 700)) * np.exp(rng.normal(0, 3, size=700)) for n in (30, 40))
    order = rng.permutation(700)
    assert_array_equal(exact.product(a, b), exact.product(a[:, order], b[:, order]), strict=True)
    assert_array_equal(exact.fine_product(a, b), exact.fine_product(a[:, order], b[:, order]), strict=True)
    assert_array_equal(exact.total(a, 1), exact.total(a[:, order], 1), strict=True)
    size = np.abs(a).max(axis=1)[:, np.newaxis] * np.abs(b).max(axis=1)
    assert np.abs((exact.product(a, b) - a @ b.T) / size).max() < 700 * 2.0**-21
    assert np.abs((exact.fine_product(a, b) - a @ b.T) / size).max() < 700 * 2.0**-42
    codes = rng.integers(-127, 128, (3000, 50)).astype(np.int8)
    assert_array_equal(covariance(codes), covariance(codes[rng.permutation(3000)]), strict=True)
    assert_allclose(covariance(codes), np.cov(codes.T, bias=True), atol=1e-6)


def test_rounding_to_a_grid_takes_every_size():
    x = np.array([[0.0, 0.0], [2.0**-600, 5e-324], [2.0**600, 1.0], [3.0, 2.0**-30]])
    expected = np.array([[0.0, 0.0], [2.0**-600, 0.0], [2.0**600, 0.0], [3.0, 0.0]])
    assert_array_equal(exact.on_grid(x, 20, 1), expected, strict=True)


def test_functions_are_those_of_the_library():
    x = np.concatenate([np.linspace(-30, 30, 60001), [0.0, -0.0, 1e-30, 8.0, -8.0]])[:, np.newaxis]
    assert_allclose(exact.gelu(x), exact_gelu(x), atol=1e-10)
    assert exact.gelu(x.astype(np.float32)).dtype == np.float32
    down = -np.linspace(0, 490, 70001)
    assert_allclose(exact.exponential(down), np.exp(down), rtol=1e-12)
    assert exact.exponential(np.array([0.0, -1e9])).tolist() == [1.0, float(exact.exponential(np.array(-500.0)))]
    positive = np.array([0.0, 1e-30, 0.3, 1.0, 7.0, 1e20])
    for exponent in (0, 3 / 16, 13 / 16, 27 / 32, 1):
        assert_allclose(exact.power(positive, exponent), positive**exponent, rtol=1e-14)


def test_cholesky_gives_the_triangle():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(400, 150)) * np.exp(rng.normal(0, 2, size=150))
    matrix = rows.T @ rows
    upper = exact.cholesky(matrix)
    assert_allclose(upper, np.linalg.cholesky(matrix).T, atol=1e-10 * math.sqrt(matrix.max()))
    with pytest.raises(ValueError, match=r"a covariance must be positive definite, and pivot 1 is -3$"):
        exact.cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_a_row_without_variance_becomes_the_shift():
    gain, shift = (np.array(values, np.float32) for values in ([2.0, 3.0, 4.0], [0.1, -0.2, 0.3]))
    rows = np.array([[5.1, 5.1, 5.1], [1.0, 2.0, 3.0]], np.float32)
    for epsilon in (0.0, 1e-12):
        found, variances = exact.normalise(rows, gain, shift, epsilon)
        assert_array_equal(found[0], shift)
        assert variances[0] == 0
        assert_allclose(found[1], np.array([-1, 0, 1]) * np.sqrt(1.5) * gain + shift, atol=1e-6)
