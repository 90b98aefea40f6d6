"""The engines take exactly the cycles that the cycle model counts, and as few as few rows may take."""

import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.datapath import Datapath

from cocotb_tests.harness import run_testbench

MODEL = ["vector_instructions_take_what_the_model_says", "matmul_instructions_take_what_the_model_says",
         "engines_hand_a_half_over_as_the_model_says"]
#: Of the datapath's testbench, and with it compiled once.
SHAPES = {"few-lanes": {"rows": 8, "cols": 8, "lanes": 4}, "square": {"rows": 4, "cols": 4},
          "wide": {"rows": 4, "cols": 16}, "tall": {"rows": 16, "cols": 8}}


def run(shape, testcase):
    parameters = {"scratchpad_kib": 32, "accumulator_kib": 16, "scratchpad_banks": 4, "row_entries": 64,
                  **SHAPES[shape]}
    run_testbench(Datapath(AcceleratorConfig(**parameters)), bench="vector.bench_cycles", parameters=parameters,
                  testcase=testcase)


@pytest.mark.parametrize("shape", [
    "few-lanes", "square", *(pytest.param(shape, marks=pytest.mark.regress) for shape in ("wide", "tall"))])
def test_the_cycle_model_is_exact(shape):
    run(shape, ",".join(MODEL))


def test_few_rows():
    run("few-lanes", "groups_of_few_rows_take_few_cycles,few_groups_of_many_rows_start_and_end_soon,"
        "a_tile_of_one_row_takes_as_long_as_it_shifts_in")
