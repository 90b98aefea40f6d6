"""The golden kernels: their errors against real functions, and their properties."""

import math
import re
from decimal import Decimal, getcontext

import numpy as np
import pytest
from celosia.sim.golden import errors, kernels, tables
from celosia.sim.golden.parameters import Curve, FirstParameters, RowParameters, ScalarParameters, SecondParameters
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

WIDTHS = [32, 33, 64, 100, 384, 768, 1000, 1024]
seeds = st.integers(0, 2**32 - 1)


def firsts(rng, n):
    return FirstParameters(rng.integers(-(2**20), 2**20, n, dtype=np.int32),
                           rng.integers(0, 2**16, n, dtype=np.uint16),
                           rng.integers(1, 48, n, dtype=np.uint8), rng.integers(-128, 128, n, dtype=np.int8))


def seconds(rng, n):
    return SecondParameters(rng.integers(-(2**31), 2**31, n, dtype=np.int32),
                            rng.integers(-(2**15), 2**15, n, dtype=np.int16),
                            rng.integers(1, 32, n, dtype=np.uint8), rng.integers(-128, 128, n, dtype=np.int8))


def test_names():
    for module in kernels, tables, errors:
        assert all(hasattr(module, name) for name in module.__all__)


# Bounds: each function that measures an error is the one that makes the table of docs/numerics.md.

def test_exponential_error():
    assert errors.exponential_error() <= 0.002
    assert errors.exponential_error(wide=True) <= 0.0003


@pytest.mark.parametrize("name", tables.CURVES)
def test_curve_error(name):
    assert errors.curve_error(name) <= 0.004


@pytest.mark.parametrize("name", [name for name in tables.CURVES if name != "relu"])
@pytest.mark.parametrize("change", [-1, 1])
def test_pieces_of_curves_have_the_best_width(name, change):
    """That of twice the width may not be a curve that the hardware takes."""
    try:
        other = errors.curve_error(name, tables.CURVES[name].width + change)
    except ValueError:
        assert change == 1
    else:
        assert other > errors.curve_error(name)


def test_reciprocal_errors():
    assert errors.reciprocal_error() <= 2e-4
    assert errors.reciprocal_square_root_error() <= 2e-4


@pytest.mark.parametrize("columns", [64, 65, 127, 128, 256, 512])
@pytest.mark.parametrize(("deviation", "bound"), [(1, 0.015), (2, 0.05)])
def test_attention_error(deviation, bound, columns):
    for seed in range(3):
        quotient, output = errors.attention_error(deviation, columns, seed)
        assert quotient <= bound
        assert output <= bound


@pytest.mark.parametrize("columns", [64, 65, 127, 128, 256, 512])
@pytest.mark.parametrize(("deviation", "bound"), [(1, 0.002), (2, 0.005)])
def test_attention_error_of_wide_numerators(deviation, bound, columns):
    for seed in range(3):
        quotient, output = errors.attention_error(deviation, columns, seed, wide=True)
        assert quotient <= bound
        assert output <= 0.015


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("rows", errors.LAYER_NORM_ROWS)
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm_error(width, rows, rms):
    assert errors.layer_norm_error(width, rows, rms=rms) <= 1


def test_page_lists_every_measurement(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "numerics.md").read_text(encoding="utf-8")
    for line in errors.measurements():
        assert f"| {line.kernel} | {line.inputs} | " in page
        assert line.error <= line.bound


# Tables: so close to a tie that another libm could turn it, an entry would depend on the machine.

def test_exponential_table_in_fifty_digits():
    getcontext().prec = 50

    def curve(t):
        return 255 * 1024 * (-Decimal(2).ln() * t).exp()

    for i in range(32):
        p, q, middle = (curve((i + Decimal(f)) / 32) for f in ("0", "1", "0.5"))
        for exact, entry in ((p + (middle - (p + q) / 2) / 2, tables.EXP_BASE[i]),
                             ((p - q) / 8, tables.EXP_SLOPE[i])):
            assert abs(exact - int(entry)) < Decimal("0.4999")
    assert tables.EXP_BASE.max() < 2**18
    assert tables.EXP_SLOPE.max() < 2**10


def test_no_table_entry_is_near_a_tie():
    values = []
    for i in range(32):
        base, rise = tables.chord(lambda a: -tables.ACTIVATIONS["gelu"](-a / 256) * 2**16, 32 * i, 32)
        values += [base, rise / 32]
        base, rise = tables.chord(tables.exp_curve, i / 32, 1 / 32)
        values += [base, rise / 8]
    values += [2**19 / (1 + i / 64) for i in range(65)]
    values += [2**19 / math.sqrt((1 + odd) * (1 + j / 32)) for odd in range(2) for j in range(33)]
    assert min(abs(value - math.floor(value) - 0.5) for value in values) > 1e-3


def test_reciprocal_mantissas_have_sixteen_bits():
    m, s = kernels.reciprocal(np.concatenate([np.arange(2**20), np.arange(2**20, 2**24, 77), [2**24 - 1]]))
    assert 2**14 <= m.min() <= m.max() <= 2**15
    assert (s.min(), s.max()) == (6, 29)
    m, s = kernels.reciprocal_square_root(2 ** np.arange(6, 46))
    assert 2**14 <= m.min() <= m.max() <= 2**15
    assert (s.min(), s.max()) == (1, 20)
    assert kernels.reciprocal(0) == kernels.reciprocal(1)


# Building blocks.

@given(st.integers(-(2**48), 2**48), st.integers(1, 47))
def test_shift_round_is_nearest_ties_up(x, s):
    assert kernels.shift_round(x, s) == math.floor(Decimal(x) / 2**s + Decimal("0.5")) or s > 40
    assert kernels.shift_round(x, s) == (x + 2 ** (s - 1)) >> s


def test_shift_of_zero_keeps_its_operand():
    assert_array_equal(kernels.shift_round(np.arange(-3, 4), 0), np.arange(-3, 4))


@given(st.integers(-(2**32), 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(1, 47))
def test_scale1_against_python(x, m, s):
    exact = (x * m + 2 ** (s - 1)) >> s
    assert kernels.scale1(x, m, s) == max(-(2**17), min(2**17 - 1, exact))


@given(st.integers(-(2**17), 2**17 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**15), 2**15 - 1),
       st.integers(1, 31))
def test_scale2_against_python(x, o, m, s):
    exact = (x * m + o + 2 ** (s - 1)) >> s
    assert kernels.scale2(x, o, m, s) == max(-(2**17), min(2**17 - 1, exact))


@pytest.mark.parametrize("k", [1, 511, 512, 513, 1024, 1025, 4096])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_matmul_is_exact(k, kind):
    rng = np.random.default_rng(k)
    a = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (7, k), dtype=kind, endpoint=True)
    b = rng.integers(-128, 127, (5, k), dtype=np.int8, endpoint=True)
    a[0], b[0] = np.iinfo(kind).max, -128
    assert_array_equal(kernels.matmul(a, b), (a.astype(np.int64) @ b.astype(np.int64).T).astype(np.int32),
                       strict=True)


def test_matmul_refuses():
    message = r"^a and b must be \[M, K\] and \[N, K\], not \[2, 3\] and \[2, 4\]$"
    with pytest.raises(ValueError, match=message):
        kernels.matmul(np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8))
    with pytest.raises(ValueError, match=r"^K must be at most 65536, not 65537$"):
        kernels.matmul(np.zeros((1, 65537), np.int8), np.zeros((1, 65537), np.int8))
    with pytest.raises(ValueError, match=r"^K times the largest \|a\| must be below 2\*\*24, not 512 times 32768$"):
        kernels.matmul(np.full((1, 512), -32768, np.int16), np.zeros((1, 512), np.int8))


@pytest.mark.parametrize(("bits", "max_shift"), [(16, 47), (15, 31)])
def test_fit_multiplier_takes_the_largest_shift(bits, max_shift):
    random = np.random.default_rng(1).uniform(-40, 13, 2000)
    ratio = np.concatenate([np.exp2(random), 2.0 ** np.arange(-40, 14),
                            (2**bits - np.array([0.4, 0.5, 0.6])) / 2**20])
    m, s = kernels.fit_multiplier(ratio, bits, max_shift)
    for r, mantissa, shift in zip(ratio.tolist(), m.tolist(), s.tolist(), strict=True):
        assert mantissa == round(r * 2**shift) < 2**bits
        assert 1 <= shift <= max_shift
        assert shift == max_shift or round(r * 2 ** (shift + 1)) >= 2**bits


def test_fit_multiplier_signs_and_refusals():
    m, s = kernels.fit_multiplier([0.0, -1.0], 15, 31)
    assert (m.tolist(), s.tolist()) == ([0, -16384], [31, 14])
    with pytest.raises(ValueError, match=r"^a ratio must be finite and at most 32767\.5, not 40000$"):
        kernels.fit_multiplier([1.0, 40000.0])
    with pytest.raises(ValueError, match=r"^a ratio must be finite and at most 32767\.5, not nan$"):
        kernels.fit_multiplier(math.nan)


@pytest.mark.parametrize("width", [1, 2, 3, 384, 1000, 32768])
def test_mean_scalar(width):
    scalar = kernels.mean_scalar(width)
    assert 2**15 <= scalar.multiplier < 2**16
    assert abs(scalar.multiplier / 2**scalar.shift * width / 256 - 1) <= 2**-16


# Properties of the functions.

@given(seeds)
def test_outputs_saturate(seed):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(2**30), 2**30, (5, 6), dtype=np.int32)
    first, second = firsts(rng, 6), seconds(rng, 6)
    x8 = rng.integers(-128, 128, (5, 6), dtype=np.int8)
    rows = RowParameters(rng.integers(0, 2**16, 5, dtype=np.uint16), rng.integers(1, 48, 5, dtype=np.uint8))
    exact = np.array([[(int(acc[i, j]) + int(first.bias[j])) * int(first.multiplier[j]) for j in range(6)]
                      for i in range(5)])
    scaled = [[max(-(2**17), min(2**17 - 1, (int(exact[i, j]) + (1 << int(first.shift[j]) - 1))
                                 >> int(first.shift[j]))) for j in range(6)] for i in range(5)]
    assert_array_equal(kernels.requantise(acc, first),
                       np.clip(np.array(scaled) + first.zero_point, -128, 127).astype(np.int8), strict=True)
    assert kernels.row_requantise(acc, rows).dtype == np.int8
    assert kernels.gelu(acc, first, second).dtype == np.int8
    x16 = rng.integers(-(2**15), 2**15, (5, 6), dtype=np.int16)
    for operand in x8, x16:
        assert kernels.gated(acc, first, operand, second, tables.GELU).dtype == np.int8
        assert kernels.gated(acc, first, operand, second, tables.GELU, 16).dtype == np.int16
        assert kernels.residual(acc, first, operand, second).dtype == np.int16
    assert_array_equal(kernels.requantise(acc, first, 16), np.clip(
        np.array(scaled) + first.zero_point, -(2**15), 2**15 - 1).astype(np.int16), strict=True)
    assert kernels.attention_output(acc, rng.integers(0, 2**20, 5), second).dtype == np.int8
    h = kernels.residual(acc, first, x8, second)
    assert h.dtype == np.int16
    assert kernels.layer_norm(h, kernels.mean_scalar(6), second).dtype == np.int8


def test_extremes_saturate_instead_of_wrapping():
    first = FirstParameters(np.array([2**30], np.int32), np.array([65535], np.uint16),
                            np.array([1], np.uint8), np.array([127], np.int8))
    acc = np.array([[2**30 - 1], [-(2**31)]], np.int32)
    assert kernels.requantise(acc, first).ravel().tolist() == [127, -128]
    second = SecondParameters(np.array([2**31 - 1], np.int32), np.array([32767], np.int16),
                              np.array([1], np.uint8), np.array([127], np.int8))
    h = kernels.residual(acc, first, np.array([[127], [-128]], np.int8), second)
    assert h.ravel().tolist() == [32767, -1]


@pytest.mark.parametrize(("wide", "largest"), [(False, 255), (True, 4080)])
def test_exponential_is_monotonous(wide, largest):
    e = kernels.exponential(np.arange(4096), wide).astype(int)
    assert e[0] == largest
    assert e[-1] == 0
    assert (np.diff(e) <= 0).all()


def test_rounding_wide_numerators_gives_narrow_ones():
    """But for those that are rounded twice, by one."""
    u = np.arange(4096)
    assert np.abs(kernels.shift_round(kernels.exponential(u, wide=True), 4) - kernels.exponential(u)).max() <= 1


def test_planes():
    x = np.array([[0x0102, -2, 3, 0x7FFF]], np.int16)
    assert kernels.planes(x, 2).tolist() == [[2, 254, 1, 255, 3, 255, 0, 127]]
    assert kernels.planes(x.astype(np.int8), 2).tolist() == [[2, 254, 3, 255]]
    assert kernels.planes(np.array([[0x01020304, -2]], np.int32), 2).tolist() == [[4, 254, 3, 255, 2, 255, 1, 255]]


def test_causal_mask():
    keep = np.array([True, True, False, True])
    assert kernels.causal_mask(keep, 3, 0).astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert kernels.causal_mask(keep, 2, 2).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 1]]
    assert not kernels.causal_mask(keep, 2, -2).any()


def test_curves_are_even_beside_the_positive_part():
    x = np.arange(2**15)
    for table in tables.CURVES.values():
        assert_array_equal(kernels.curve(x, table) - kernels.curve(-x, table), 4 * x)
        assert not kernels.curve(-32 << table.width, table)
    assert_array_equal(kernels.curve(np.arange(-9, 9), tables.CURVES["relu"]), 4 * np.maximum(np.arange(-9, 9), 0))


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 2}, "a piece must have a width from 3 to 7, not 2"),
    ({"width": 8}, "a piece must have a width from 3 to 7, not 8"),
    ({"base": -1}, "base of piece 3 must be from 0 to 32767, not -1"),
    ({"base": 2**15}, "base of piece 3 must be from 0 to 32767, not 32768"),
    ({"slope": 256}, "slope of piece 3 must be from -256 to 255, not 256"),
    ({"slope": -257}, "slope of piece 3 must be from -256 to 255, not -257"),
    ({"base": 32760}, "base + slope * step + 32 of piece 3 must be from 0 to 32767, not 32792"),
    ({"base": 62, "slope": -14}, "base + slope * step + 32 of piece 3 must be from 0 to 32767, not -4"),
])
def test_refuses_curves(change, message):
    base, slope = np.zeros(32, np.int64), np.zeros(32, np.int64)
    base[3], slope[3] = change.get("base", 100), change.get("slope", 0)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Curve(base, slope, change.get("width", 3))


def test_gated_takes_the_operand_for_the_multiplier():
    rng = np.random.default_rng(0)
    first, second = firsts(rng, 4), seconds(rng, 4)
    acc = rng.integers(-(2**20), 2**20, (3, 4), dtype=np.int32)
    operand = np.tile(second.multiplier, (3, 1))
    assert_array_equal(kernels.gated(acc, first, operand, second, tables.GELU),
                       kernels.gelu(acc, first, second), strict=True)


def test_reciprocals_are_monotonous():
    """A larger sum never gives a larger reciprocal (beyond the last bit of the mantissa)."""
    m, s = kernels.reciprocal(np.arange(1, 2**20))
    assert (np.diff(np.ldexp(m.astype(float), 30 - s)) <= np.ldexp(1.0, 30 - s[1:])).all()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=20), st.integers(0, 65535),
       st.integers(1, 47))
def test_requantisation_is_monotonous(values, m, s):
    y = kernels.scale1(np.sort(np.array(values)), m, s)
    assert (np.diff(y) >= 0).all()


@given(seeds, st.integers(1, 40), st.data())
def test_masked_columns_do_not_matter(seed, n, data):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(2**20), 2**20, (4, n), dtype=np.int32)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    scalar = ScalarParameters(int(rng.integers(1, 2**16)), int(rng.integers(1, 30)))
    other = np.where(mask, acc, rng.integers(-(2**31), 2**31, (4, n))).astype(np.int32)
    e, total = kernels.softmax_numerators(acc, mask, scalar)
    e_other, total_other = kernels.softmax_numerators(other, mask, scalar)
    assert_array_equal(e, e_other, strict=True)
    assert_array_equal(total, total_other, strict=True)
    assert not e[:, ~mask].any()
    if mask.any():
        alone, _ = kernels.softmax_numerators(acc[:, mask], np.ones(mask.sum(), bool), scalar)
        assert_array_equal(e[:, mask], alone, strict=True)
        assert (total >= 255).all()


@given(seeds, st.integers(-(2**20), 2**20))
def test_a_constant_added_to_a_row_of_scores_does_not_matter(seed, constant):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(2**20), 2**20, (4, 17), dtype=np.int32)
    mask, scalar = np.ones(17, bool), ScalarParameters(40000, 20)
    e, _ = kernels.softmax_numerators(acc, mask, scalar)
    shifted, _ = kernels.softmax_numerators(acc + np.int32(constant), mask, scalar)
    assert_array_equal(e, shifted, strict=True)


@pytest.mark.parametrize("fill", [-(2**31), 0, 2**31 - 1])
def test_a_row_masked_throughout_gives_zero(fill):
    acc = np.full((3, 8), fill, np.int32)
    mask = np.zeros(8, bool)
    assert kernels.row_maximum(acc, mask).tolist() == [-(2**31)] * 3
    e, total = kernels.softmax_numerators(acc, mask, ScalarParameters(65535, 1))
    assert not e.any()
    assert not total.any()
    rng = np.random.default_rng(0)
    second = SecondParameters(np.zeros(4, np.int32), np.full(4, 9000, np.int16), np.full(4, 14, np.uint8),
                              rng.integers(-128, 128, 4, dtype=np.int8))
    y = kernels.attention_output(np.zeros((3, 4), np.int32), total, second)
    assert_array_equal(y, np.tile(second.zero_point, (3, 1)), strict=True)


def test_top_may_be_given():
    acc = np.array([[5, 9, 7]], np.int32)
    mask, scalar = np.ones(3, bool), ScalarParameters(1 << 15, 8)
    top = kernels.row_maximum(acc, mask)
    assert top.tolist() == [9]
    assert_array_equal(kernels.softmax_numerators(acc, mask, scalar, top)[0],
                       kernels.softmax_numerators(acc, mask, scalar)[0], strict=True)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 100])
def test_padding_columns_change_nothing(width):
    """Columns of h = 0 beyond the width leave the statistics alone; all-zero records give zero there."""
    h = np.random.default_rng(width).integers(-9000, 9000, (5, width), dtype=np.int16)
    padded = np.pad(h, ((0, 0), (0, 3)))
    scalar = kernels.mean_scalar(width)
    for own, with_padding in zip(kernels.layer_norm_statistics(h, scalar),
                                 kernels.layer_norm_statistics(padded, scalar), strict=True):
        assert_array_equal(own, with_padding, strict=True)
    nothing = SecondParameters(*(np.zeros(width + 3, t) for t in (np.int32, np.int16, np.uint8, np.int8)))
    assert not kernels.layer_norm(padded, scalar, nothing).any()


def test_constant_rows_normalise_to_zero():
    second = SecondParameters(np.zeros(64, np.int32), np.full(64, 2**14, np.int16), np.full(64, 8, np.uint8),
                              np.zeros(64, np.int8))
    for value in (-32768, -1, 0, 1, 32767):
        h = np.full((1, 64), value, np.int16)
        assert not kernels.layer_norm(h, kernels.mean_scalar(64), second).any()
