"""The gates of sums of products and of squares make them, and the proof of it finds every fault that is planted."""

import re

import pytest
from celosia.synth.formal.polynomials import Gates, product, total, word
from celosia.synth.formal.sums import (
    SQUARE_FAULTS,
    SQUARE_WIDTH,
    SUM_FAULTS,
    SUMS,
    SumFault,
    prove_square,
    prove_sums,
)
from celosia.synth.tools import SynthesisError

ADDER = """
module top(input wire [2:0] a, b, input wire c, output wire [3:0] sum);
  wire [3:0] carry;
  assign carry[0] = c;
  genvar i;
  for (i = 0; i < 3; i = i + 1) begin : bits
    wire half = a[i] ^ b[i];
    assign sum[i] = half ^ carry[i];
    assign carry[i+1] = {carry};
  end
  assign sum[3] = carry[3];
endmodule
"""


@pytest.mark.parametrize("name", SUMS)
def test_the_gates_make_the_sums(name, tmp_path):
    outcome = prove_sums(*SUMS[name], tmp_path)
    assert outcome.proved, outcome.reason


@pytest.mark.parametrize("shape", [(1, 1, 16, 0), (2, 4, 17, 9), *(
    pytest.param(shape, marks=pytest.mark.regress) for shape in ((16, 2, 20, 12), (64, 1, 22, 14)))], ids=str)
def test_they_do_for_other_shapes(shape, tmp_path):
    outcome = prove_sums(*shape, tmp_path)
    assert outcome.proved, outcome.reason


@pytest.mark.parametrize("fault", SUM_FAULTS, ids=lambda fault: fault.what)
def test_a_planted_fault_is_found(fault, tmp_path):
    outcome = prove_sums(*SUMS["first rows"], tmp_path, fault)
    assert re.fullmatch("column [01] is (another function|no tree of adders)", outcome.reason)
    assert not outcome.proved


@pytest.mark.parametrize("width", [2, 3, SQUARE_WIDTH])
def test_the_gates_of_a_square_make_it(width, tmp_path):
    outcome = prove_square(width, tmp_path)
    assert outcome.proved, outcome.reason


@pytest.mark.parametrize("fault", SQUARE_FAULTS, ids=lambda fault: fault.what)
def test_a_planted_fault_of_a_square_is_found(fault, tmp_path):
    outcome = prove_square(SQUARE_WIDTH, tmp_path, fault)
    assert re.fullmatch("the square is (another function|no tree of adders)", outcome.reason)
    assert not outcome.proved


def test_a_fault_must_stand_in_the_verilog(tmp_path):
    with pytest.raises(ValueError, match=r"^the Verilog must have 'no such code' in it$"):
        prove_sums(*SUMS["rows"], tmp_path, SumFault("nothing", "no such code", ""))


@pytest.mark.parametrize(("carry", "right"), [
    ("half ? carry[i] : a[i]", True), ("(a[i] & b[i]) | (half & carry[i])", True), ("a[i] & b[i] | ~half", False)])
def test_an_adder_is_the_sum_of_its_inputs(carry, right, tmp_path):
    gates = Gates(ADDER.replace("{carry}", carry), "top", tmp_path)
    wanted = total(word(gates.ports["a"]), word(gates.ports["b"]), word(gates.ports["c"]))
    assert (gates.value(gates.ports["sum"]) == wanted) == right


def test_polynomials_count_as_numbers_do():
    one, two = word([1, 2]), word([2, 3], signed=True)  # a + 2 b, and b - 2 c
    a, b, c = (frozenset({bit}) for bit in (1, 2, 3))
    assert total(one, two) == {a: 1, b: 3, c: -2}
    assert product(one, two) == {a | b: 1, a | c: -2, b: 2, b | c: -4}
    assert total(one, product({frozenset(): -1}, one)) == {}


@pytest.mark.parametrize(("code", "sentence"), [
    ("reg r; always @(posedge a) r <= b; assign y = r;", r"must consist of gates, not of \$_DFF_P_"),
    ("assign y = a;", "every bit must be defined, not x"),
])
def test_what_is_no_function_of_the_inputs_is_refused(code, sentence, tmp_path):
    verilog = f"module top(input wire a, b, output wire y); {code} endmodule"
    with pytest.raises(SynthesisError, match=sentence):
        Gates(verilog, "top", tmp_path).value(["x"])
