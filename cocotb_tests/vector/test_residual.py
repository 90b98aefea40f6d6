"""The distance that the vector engine keeps between beats that share a word of the accumulators."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.datapath import Datapath
from celosia.hdl.vector import issuer

from cocotb_tests.harness import BenchFailure, run_testbench

SHAPES = {"many-slices": {"rows": 16, "cols": 16, "lanes": 4}, "rect": {"rows": 8, "cols": 16}}


def run(shape, pause=0, seed=None):
    config = AcceleratorConfig(
        scratchpad_kib=32, accumulator_kib=16, scratchpad_banks=4, row_entries=64, **SHAPES[shape])
    run_testbench(Datapath(config), bench="vector.bench_residual",
                  parameters={"config": config.to_toml(), "pause": pause}, seed=seed)


@pytest.mark.parametrize("shape", ["rect", pytest.param("many-slices", marks=pytest.mark.regress)])
def test_no_word_is_read_while_it_is_written(shape):
    run(shape)


def test_a_distance_that_is_too_short_is_seen(monkeypatch):
    monkeypatch.delenv("COCOTB_RANDOM_SEED", raising=False)
    monkeypatch.setattr(issuer, "WRITE_BACK_SPACING", issuer.WRITE_BACK_SPACING - 1)
    with pytest.raises(BenchFailure, match=r"half_0 of the accumulators reads word [0-9]+ while it is written"):
        run("rect", seed=1)
