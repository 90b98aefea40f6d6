"""Gates that are counted, and the longest path through them, on designs small enough to count by hand."""

import json

import pytest
from celosia.generators.verilog import TOP, to_verilog, with_prefix
from celosia.hdl.config import AcceleratorConfig
from celosia.synth.area.__main__ import main, measure
from celosia.synth.area.count import Area, areas
from celosia.synth.area.delay import longest_paths
from celosia.synth.area.gates import GATES, SMALL_MEMORY_BIT
from celosia.synth.area.mapping import map_to_gates, memories_of
from celosia.synth.tools import SynthesisError

pytest.importorskip("pyosys")

FLAT = """
module top(input wire clk, enable, input wire [3:0] a, b, output reg [3:0] q, output reg [3:0] r);
  reg [3:0] c;
  always @(posedge clk) begin
    c <= a ^ b;
    if (enable) q <= c & b;
    r <= ~q;
  end
endmodule
"""

# From `first` through the child's AND, the top's XOR and the other child's AND; in a child there is a NAND's path.
DEEP = """
module child(input wire clk, x, y, output wire z, output reg w);
  reg inner;
  assign z = x & y;
  always @(posedge clk) begin
    inner <= x;
    w <= ~(inner & w);
  end
endmodule
module top(input wire clk, a, b, c, output reg q, output wire v, w);
  reg first, second, third;
  wire middle, last;
  child child_1(.clk(clk), .x(first), .y(second), .z(middle), .w(v));
  child child_2(.clk(clk), .x(middle ^ third), .y(second), .z(last), .w(w));
  always @(posedge clk) begin
    {first, second, third} <= {a, b, c};
    q <= last;
  end
endmodule
"""

LOOP = """
module half(input wire a, b, output wire y);
  assign y = ~(a & b);
endmodule
module top(input wire a, b, output wire p, q);
  half one(.a(a), .b(q), .y(p));
  half two(.a(b), .b(p), .y(q));
endmodule
"""

MEMORY = """
module npu_{kind} #(parameter WIDTH = 1, parameter ADDRESS_BITS = 1) (
  input wire clk, input wire [ADDRESS_BITS-1:0] read_address, output reg [WIDTH-1:0] read_data);
  reg [WIDTH-1:0] content [0:(1<<ADDRESS_BITS)-1];
  always @(posedge clk) read_data <= content[read_address];
endmodule
"""


def test_every_gate_and_register_is_counted(tmp_path):
    (area,) = areas(map_to_gates(FLAT, "top", tmp_path), "top").values()
    assert (area.gates["XOR"], area.gates["AND"], area.gates["INV"]) == (4, 4, 4)
    assert (sum(area.gates.values()), area.flip_flops, area.with_enable, area.latches) == (12, 8, 4, 0)
    assert area.nand2 == 4 * (2.5 + 1.5 + 0.5) + 8 * 5.5 + 4 * 7


def test_blocks_are_parts_of_the_whole(tmp_path):
    modules = map_to_gates(DEEP, "top", tmp_path)
    blocks = areas(modules, "top")
    assert set(blocks) == {"top", "child"}
    assert blocks["child"].flip_flops == 4
    assert blocks["top"].flip_flops == 4
    (whole,) = areas(modules, "top", depth=0).values()
    assert whole == sum(blocks.values(), Area())


def test_a_latch_is_a_latch(tmp_path):
    text = "module top(input wire e, d, output reg q); always @* if (e) q = d; endmodule"
    (area,) = areas(map_to_gates(text, "top", tmp_path), "top").values()
    assert (area.latches, area.nand2) == (1, 4)


def test_the_longest_path_goes_through_modules(tmp_path):
    paths = longest_paths(map_to_gates(DEEP, "top", tmp_path), "top")
    delays = {name: (path.delay, path.start, path.end) for name, path in paths.items()}
    assert delays["top"] == (1.5 + 2 + 1.5, "first", "q") or delays["top"] == (5, "second", "q")
    assert delays["child"] == (1, "inner", "w") or delays["child"] == (1, "w", "w")
    assert next(iter(paths)) == "top"


def test_a_loop_through_modules_is_refused(tmp_path):
    with pytest.raises(SynthesisError, match=r"the module top must have no combinational loop, not one through .*p"):
        longest_paths(map_to_gates(LOOP, "top", tmp_path), "top")


@pytest.mark.parametrize(("kind", "small"), [("ram", 0), ("small_ram", 8 * 16), ("small_ram_ecp5", 8 * 16)])
def test_memories_are_counted_in_bits(kind, small, tmp_path):
    text = MEMORY.format(kind=kind) + f"""
module npu(input wire clk, input wire [3:0] a, output wire [7:0] q);
  npu_{kind} #(.WIDTH(8), .ADDRESS_BITS(4)) words(.clk(clk), .read_address(a), .read_data(q));
endmodule
"""
    (area,) = areas(map_to_gates(text, "npu", tmp_path), "npu").values()
    assert (area.small_bits, area.memory_bits) == (small, 128 - small)
    assert (area.nand2, area.nand2_with_small_memories) == (0, small * SMALL_MEMORY_BIT)


def test_whatever_is_no_gate_is_refused():
    cell = {"type": "MULT18X18D", "connections": {}, "parameters": {}}
    with pytest.raises(SynthesisError, match="must consist of gates, registers and memories, not of MULT18X18D"):
        areas({"top": {"cells": {"a": cell}, "attributes": {}}}, "top")


def test_what_yosys_says_of_bad_verilog_is_shown(tmp_path):
    with pytest.raises(SynthesisError, match=r"(?s)yosys failed; its log is .*ERROR"):
        map_to_gates("module top; nonsense", "top", tmp_path)


def test_gates_compute_what_they_are_called(tmp_path):
    """Each by a design that has nothing else in it: area as the table says."""
    for name, text in {"NAND": "~(a & b)", "NOR": "~(a | b)", "AND": "a & b", "OR": "a | b", "XOR": "a ^ b",
                       "XNOR": "~(a ^ b)", "MUX": "s ? b : a", "INV": "~a"}.items():
        modules = map_to_gates(f"module top(input wire a, b, s, output wire y); assign y = {text}; endmodule", "top",
                               tmp_path)
        (area,) = areas(modules, "top").values()
        assert dict(area.gates) == {name: 1}
        assert longest_paths(modules, "top")["top"].delay == GATES[name].delay


def test_any_prefix(tmp_path):
    """An accelerator's memories are found by any prefix; where its area goes is the same."""
    text = to_verilog(AcceleratorConfig(rows=4, cols=4))
    other = with_prefix(text, "npu_2")
    assert {name.removeprefix("npu_2") for name in memories_of(other)} == {
        name.removeprefix(TOP) for name in memories_of(text)} == {"_ram", "_small_ram"}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The command, with a design of a few gates in place of an accelerator's; it can be made larger."""
    designs = [FLAT.replace("module top", "module celosia")]
    monkeypatch.setattr("celosia.synth.area.__main__.to_verilog", lambda _config: designs[-1])
    results = tmp_path / "area.json"

    def command(*arguments):
        return main(["--folder", str(tmp_path), "--results", str(results), *arguments])
    return command, designs, results


def test_the_check_fails_when_a_kept_figure_gets_worse(measured, capsys):
    command, designs, results = measured
    assert command("--check") == 1
    assert "has no figures of it" in " ".join(capsys.readouterr().out.split())
    assert command("--config", "tiny") == command("--config", "small") == 0
    kept = json.loads(results.read_text())
    assert [(entry["config"], entry["flip_flops"], entry["delay"]) for entry in kept] == [
        ("small", 12, 2), ("tiny", 12, 2)]
    assert command("--check") == 0
    designs.append(designs[0].replace("r <= ~q;", "r <= ~q ^ a;"))
    capsys.readouterr()
    assert command("--check") == 1
    assert "worse: tiny on gates: nand2 was 90, is" in capsys.readouterr().out
    assert json.loads(results.read_text()) == kept
    assert command("--show") == 0
    assert "tiny" in capsys.readouterr().out


def test_a_bad_configuration_is_one_sentence(tmp_path, capsys):
    assert main(["--config", "none", "--results", str(tmp_path / "area.json")]) == 2
    assert capsys.readouterr().err.startswith("error: 'none' is no configuration")


def test_figures_of_a_design(tmp_path):
    entry = measure(DEEP, "top", 4, "deep", tmp_path)
    assert entry["hierarchy"]["child"]["flip_flops"] == 4
    assert (entry["config"], entry["flip_flops"], entry["delay"]) == ("deep", 8, 5)
    assert entry["nand2"] == sum(block["nand2"] for block in entry["hierarchy"].values())


def test_no_kept_figure_got_worse(tmp_path, capsys):
    """Of the smallest accelerator, against ``bench/area.json``: when it is to be worse, keep its figures anew."""
    assert main(["--check", "--config", "tiny", "--folder", str(tmp_path)]) == 0, capsys.readouterr().out
