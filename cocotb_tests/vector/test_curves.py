"""Activations and the exponential, exhaustively."""

from celosia.hdl.vector.curves import Curve

from cocotb_tests.harness import run_testbench
from cocotb_tests.vector.lanes import Lanes

LANES = 16


def test_curve():
    run_testbench(Lanes(Curve, LANES), bench="vector.bench_curves", parameters={"lanes": LANES})
