"""What `celosia generate` writes: complete, deterministic, accepted by other tools, and in agreement with Python."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from celosia.generators.configurations import configuration, configuration_names
from celosia.generators.formats.header import to_header
from celosia.generators.tidy import tidy
from celosia.generators.verilog import TOP, convert, to_verilog
from celosia.hdl.config import AcceleratorConfig, ConfigError
from celosia.hdl.isa import FORMATS, RECORDS, Function, Opcode
from celosia.hdl.registers import ACCELERATOR_ID, REGISTERS, VERSION, ErrorCause


@pytest.fixture(scope="module")
def verilog():
    return to_verilog(configuration("tiny"))


def test_named_configurations():
    assert configuration_names() == ["tiny", "small", "ulx3s", "rect", "base", "large"]
    shapes = {name: (configuration(name).rows, configuration(name).cols) for name in configuration_names()}
    assert shapes == {"tiny": (4, 4), "small": (8, 8), "ulx3s": (8, 8), "rect": (8, 16), "base": (16, 16),
                      "large": (32, 32)}
    base = configuration("base")
    assert (base.bus_bits, base.scratchpad_kib, base.accumulator_kib) == (128, 256, 256)


def test_settings_replace_parameters():
    config = configuration("base", ["rows=8", "bus_bits=64"])
    assert (config.rows, config.cols, config.lanes, config.bus_bits) == (8, 16, 8, 64)


@pytest.mark.parametrize(("settings", "chosen"), [
    ([], (8, 8)), (["target=ecp5"], (1, 1)), (["target=xilinx", "macs_per_multiplier=2"], (1, 2)),
    (["macs_per_multiplier=2"], (1, 2)), (["rows_per_sum=2"], (2, 8)), (["rows_per_sum=1"], (1, 1)),
    (["rows=4", "cols=4"], (4, 4)), (["target=ecp5", "rows_per_sum=2"], (2, 1)),
])
def test_the_target_chooses_what_shares_a_register(settings, chosen):
    config = configuration("base", settings)
    assert (config.rows_per_sum, config.columns_per_activation) == chosen
    assert config.with_target(config.target) == config
    again = config.with_target("ecp5").with_target("generic")
    assert again == replace(config, target="generic", rows_per_sum=0, columns_per_activation=0)


def test_what_shares_a_register_stays_where_nothing_else_changes(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(replace(configuration("base"), target="ecp5", rows_per_sum=2).to_toml())
    for settings, rows_per_sum in ((["target=ecp5", "cols=16"], 2), (["target=xilinx"], 1), (["cols=8"], 1)):
        assert configuration(str(file), settings).rows_per_sum == rows_per_sum


def test_latches_are_for_gates_alone(tmp_path):
    config = replace(configuration("base"), weight_latches=1)
    assert config.with_target("xilinx").weight_latches == 0
    file = tmp_path / "mine.toml"
    file.write_text(config.to_toml())
    for settings, latches in ((["rows=8"], 1), (["target=ecp5"], 0), (["macs_per_multiplier=2"], 0)):
        assert configuration(str(file), settings).weight_latches == latches


@pytest.mark.parametrize(("name", "settings", "sentence"), [
    ("huge", [],
     "'huge' is no configuration; there are tiny, small, ulx3s, rect, base, large, or a path ending in .toml"),
    ("base", ["rows"], "a setting must be parameter=value, not 'rows'"),
    ("base", ["rows=12"], "rows must be a power of two from 4 to 64, not 12"),
    ("base", ["rows=many"], "rows must be a power of two from 4 to 64, not 'many'"),
    *(("base", ["weight_latches=1", setting], "weight_latches must be 0, or 1 with rows_per_sum from 2, one MAC a "
       "multiplier and the target 'generic', not 1")
      for setting in ("target=ecp5", "target=xilinx", "macs_per_multiplier=2", "rows_per_sum=1")),
])
def test_refused_configurations(name, settings, sentence):
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        configuration(name, settings)


def test_verilog_is_the_same_in_another_process(verilog):
    program = ("import sys; from celosia.generators.configurations import configuration;"
               "from celosia.generators.verilog import to_verilog; sys.stdout.write(to_verilog(configuration('tiny')))")
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "7"},
                          capture_output=True, text=True, check=True)
    assert done.stdout == verilog


def test_verilog_has_the_ports_that_tools_recognise(verilog):
    header = verilog[verilog.index(f"module {TOP}("):].split(");", 1)[0]
    for port in ("clk", "rst", "interrupt", "s_axi_ctrl_awaddr", "m_axi_mem_araddr", "m_axi_mem_wstrb"):
        assert re.search(rf"\b{port}\b", header), port


def test_no_floating_point_and_no_initialised_memory(verilog):
    assert not re.search(r"\breal\b|\$bitstoreal|\bshortreal\b", verilog)
    synthesised = re.sub(r"`ifndef SYNTHESIS\n`ifndef VERILATOR\n  // synthesis translate_off\n(?:(?!`endif).)*"
                         r"  // synthesis translate_on\n`endif\n`endif\n", "", verilog, flags=re.DOTALL)
    assert synthesised != verilog
    initialised = re.findall(r"module (\w+)(?:(?!endmodule).)*?\binitial\b", synthesised, re.DOTALL)
    assert initialised == ["celosia_reciprocals"]  # the table of constants
    assert not re.search(r"translate_o|CELOSIA_(?!COLLISIONS)", synthesised)


@pytest.mark.parametrize("init", [[], [0, 0, 0, 0], [0, 7]])
def test_what_a_memory_begins_with_stays(init):
    class Words(wiring.Component):
        address: In(2)
        data: Out(8)

        def elaborate(self, platform):
            m = Module()
            m.submodules.words = words = Memory(shape=8, depth=4, init=init)
            read = words.read_port(domain="comb")
            write = words.write_port()
            m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data), write.en.eq(self.address == 3)]
            return m

    values = re.findall(r"words\[\d\] = 8'h(\w+);", convert(Words(), name="top"))
    assert [int(value, 16) for value in values] == [*init, 0, 0, 0, 0][:4]


def test_tidy_keeps_what_somebody_else_reads():
    text = """module top(clk, q, n);
  input clk;
  output reg q;
  output wire n;
  reg \\$1 ;
  always @(posedge clk)
    q <= \\$1 ;
  always @* begin
    if (\\$auto$1 ) begin end
    \\$1  = q;
    if (clk) begin
      \\$1  = 1'h1;
    end
  end
  assign n = \\$1 ;
endmodule
"""
    assert tidy(text) == text
    alone = tidy(text.replace("  assign n = \\$1 ;\n", ""))
    assert "always @(posedge clk) begin\n    if (clk) begin\n      q <= 1'h1;" in alone
    assert "$1" not in alone


def test_tidy_leaves_out_what_nobody_reads():
    """Where Amaranth has made its name. Wires that are read by others of them alone go as well; ports, parts that are
    read, what an instance drives and what has a name of its own stay."""
    text = """module top(a, q, r);
  input [3:0] a;
  wire [3:0] a;
  output q;
  wire q;
  output [1:0] r;
  wire [1:0] r;
  (* keep_not = 1'h1 *)
  wire [3:0] \\a.copy ;
  wire [1:0] \\a.copy.low ;
  wire \\b$2 ;
  wire b;
  wire [1:0] \\c$1 ;
  wire driven;
  wire of_two;
  assign \\a.copy  = a;
  assign \\a.copy.low  = \\a.copy [1:0];
  assign \\b$2  = \\a.copy [0];
  assign b = a[2];
  assign \\c$1 [0] = a[0];
  assign \\c$1 [1] = of_two;
  assign of_two = a[1];
  assign q = of_two;
  assign r = 2'h0;
  unit unit (
    .out(driven)
  );
endmodule
"""
    gone = ("keep_not", "a.copy", "b$2", "c$1")
    kept = [line for line in text.splitlines() if not any(part in line for part in gone)]
    assert tidy(text) == "\n".join(kept) + "\n"


def test_tidy_extends_a_sign_only_where_it_is_one():
    text = """module top(a, b, c, q, r, s);
  input [3:0] a;
  wire [3:0] a;
  wire [3:0] \\$1 ;
  output [7:0] q;
  reg [7:0] q = 8'h00;
  assign \\$1  = a + 1'h1;
  assign r = { \\$1 [3], \\$1 [3], \\$1  };
  assign s = { a[2], a[2], a };
  assign t = { \\$1 [3], a };
  assign u = b >= { a[3], a };
  assign v = b <= { a[3], a };
  always @(posedge clk) begin
    if (e) begin
      q <= { a[3], a[3], a[3], a[3], a };
    end
  end
endmodule
"""
    changed = tidy(text)
    assert "  assign r = $signed(\\$1 );\n" in changed
    assert "      q <= $signed(a);\n" in changed
    assert "  assign s = { a[2], a[2], a };\n" in changed
    assert "  assign t = { \\$1 [3], a };\n" in changed
    assert "  assign u = b >= { a[3], a };\n" in changed  # a comparison without signs
    assert "  assign v = b <= { a[3], a };\n" in changed


def test_no_element_of_an_array_is_called_as_a_bit(verilog):
    assert not re.search(r"\\\S*\[", verilog)
    assert "$signal" not in verilog  # Amaranth's name for one that nobody named
    text = ("module top(\\a[1] , a_1, b);\n  wire \\x.a[1].y ;\n"
            "  assign b = \\a[1] [2:0] & a_1[1] & \\x.a[1].y ;\nendmodule\n")
    assert tidy(text) == ("module top(a_1_ , a_1, b);\n  wire \\x.a_1.y ;\n"
                          "  assign b = a_1_ [2:0] & a_1[1] & \\x.a_1.y ;\nendmodule\n")


def test_header_agrees_with_python(tmp_path):
    config = configuration("rect")
    (tmp_path / "celosia.h").write_text(to_header(config))
    numbers = {spec.name: getattr(config, spec.name) for spec in fields(config) if isinstance(spec.default, int)}
    expected = {f"CELOSIA_{name.upper()}": value for name, value in numbers.items()}
    expected |= {"CELOSIA_ACCELERATOR_ID": ACCELERATOR_ID, "CELOSIA_VERSION": VERSION}
    for register in REGISTERS:
        name = f"CELOSIA_REG_{register.name.upper()}"
        expected[name] = register.offset
        for bits in register.bits:
            expected[f"{name}_{bits.name.upper()}_BIT"] = bits.offset
            expected[f"{name}_{bits.name.upper()}_WIDTH"] = bits.width
    for prefix, members in [("ERROR", ErrorCause), ("OP", Opcode), ("FUNCTION", Function)]:
        expected |= {f"CELOSIA_{prefix}_{member.name}": member.value for member in members}
    for form in (*FORMATS.values(), *RECORDS):
        name = f"CELOSIA_{form.name.upper()}"
        expected[f"{name}_BYTES"] = form.size
        for field in form.fields:
            expected[f"{name}_{field.name.upper()}_BIT"] = field.offset
            expected[f"{name}_{field.name.upper()}_WIDTH"] = field.width
    header = (tmp_path / "celosia.h").read_text()
    texts = {f"CELOSIA_{spec.name.upper()}": getattr(config, spec.name) for spec in fields(config)
             if isinstance(spec.default, str)}
    assert all(f'#define {name} "{text}" ' in header for name, text in texts.items())
    assert set(re.findall(r"^#define (\w+)", header, re.MULTILINE)) == {"CELOSIA_H", *expected, *texts}
    lines = "\n".join(f'  printf("{name} %ld\\n", (long){name});' for name in expected)
    source = tmp_path / "check.c"
    source.write_text(f'#include <stdio.h>\n#include "celosia.h"\nint main(void) {{\n{lines}\n  return 0;\n}}\n')
    subprocess.run(["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", str(source), "-o",
                    str(tmp_path / "check")], check=True)
    printed = subprocess.run([str(tmp_path / "check")], check=True, capture_output=True, text=True).stdout
    assert {name: int(value) for name, value in (line.split() for line in printed.splitlines())} == expected


def test_configuration_file_round_trip(tmp_path):
    config = configuration("rect", ["queue_depth=8"])
    path = tmp_path / "mine.toml"
    path.write_text(config.to_toml())
    assert configuration(str(path)) == config


@pytest.mark.parametrize(("text", "sentence"), [
    ("rows = ", "the configuration must be TOML: "),
    ("rowz = 4", "'rowz' is not a parameter; the parameters are name, status, target, rows"),
    ("rows_per_sum = 32", "rows_per_sum must be a power of two up to rows, or 0 for what suits the target, not 32"),
    ("macs_per_multiplier = 2\ncolumns_per_activation = 1", "columns_per_activation must be a power of two from "
     "macs_per_multiplier to cols, or 0 for what suits the target, not 1"),
    ("lanes = 32", "lanes must be a power of two from 4 to min(rows, cols), or 0 for min(rows, cols), not 32"),
    ("rows = 4\nscratchpad_kib = 512",
     "scratchpad_kib must be a power of two from 16 to 1024, and at most 65536 words of `rows` bytes, not 512"),
    ("bus_bits = 32", "bus_bits must be 64, 128 or 256, not 32"),
    ("address_bits = 64", "address_bits must be from 32 to 48, not 64"),
    ("name = 'a b'", "name must be a word of ASCII letters, digits, '-' and '_', not 'a b'"),
    ("name = 'é'", "name must be a word of ASCII letters, digits, '-' and '_', not 'é'"),
    ("status = 'good'", "status must be 'verified' or 'experimental', not 'good'"),
    ("rows = true", "rows must be a power of two from 4 to 64, not True"),
])
def test_refused_configuration_files(text, sentence):
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}"):
        AcceleratorConfig.from_toml(text)


def test_missing_configuration_file():
    with pytest.raises(ConfigError, match=r"^the configuration file 'nowhere.toml' can't be read: "):
        configuration("nowhere.toml")
