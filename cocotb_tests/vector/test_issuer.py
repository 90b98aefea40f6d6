"""The distances that the vector engine's issuer keeps."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.vector import issuer

from cocotb_tests.harness import BenchFailure, run_testbench

SHAPES = {"slices": {"rows": 4, "cols": 8, "lanes": 4}, "square": {"rows": 8, "cols": 8}}


def run(shape, seed=None):
    config = AcceleratorConfig(scratchpad_kib=16, accumulator_kib=16, scratchpad_banks=4, **SHAPES[shape])
    run_testbench(issuer.BeatIssuer(config), bench="vector.bench_issuer", parameters={"config": config.to_toml()},
                  seed=seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_beats_keep_their_distances(shape):
    run(shape)


def test_a_distance_that_is_too_short_is_seen(monkeypatch):
    """The bench has the rule from the constant, too: the fault is planted in how the issuer counts."""
    less = issuer.BeatIssuer._less
    monkeypatch.setattr(issuer.BeatIssuer, "_less", staticmethod(lambda spacing, rows: less(spacing - 1, rows)))
    with pytest.raises(BenchFailure, match=r"beats of row \d+ are \d+ cycles apart"):
        run("slices", seed=1)
