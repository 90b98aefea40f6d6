"""Modules that are written once: their names hold what they are, and a name is one module."""

import re

import pytest
from amaranth import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from celosia.generators.configurations import configuration
from celosia.generators.verilog import convert
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.parts.ram import Ram, Rom
from celosia.hdl.parts.shared import ModuleLibrary, Shared
from celosia.session import cached_verilog

from cocotb_tests.pairs.designs import Several

SMALL = {"bus_bits": 64, "scratchpad_kib": 16, "scratchpad_banks": 4, "accumulator_kib": 16, "row_entries": 64,
         "max_k": 64, "max_n": 64, "max_tokens": 16}
CONFIGS = [{}, {"cols": 8}, {"rows": 8}, {"rows": 8, "macs_per_multiplier": 2}, {"target": "ecp5"},
           {"target": "ecp5", "macs_per_multiplier": 2}, {"target": "xilinx"}, {"weight_latches": 1}]


class Adder(wiring.Component):
    """``a`` and a number."""

    def __init__(self, number, width=8):
        self.number = number
        super().__init__({"a": In(width), "q": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(self.a + self.number)
        return m


class Design(wiring.Component):
    """The given parts, which nothing is connected to."""

    def __init__(self, *parts):
        self.parts = parts
        super().__init__({"q": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(~self.q)
        m.submodules += self.parts
        return m


def text_of(design, name="top", **options):
    return convert(design, name=name, ports=flat_ports(design), **options)


def modules(text):
    """The modules of a text that lie in no other: their text by their name."""
    return {match[1]: match[0] for match in re.finditer(r"^module (\w+)(?:.|\n)*?^endmodule$", text, re.MULTILINE)}


def shared_of(config):
    text = cached_verilog(config)
    return {name: body for name, body in modules(text).items() if name != "celosia"}


def test_equal_names_are_equal_modules():
    """Whatever the configuration: of two texts, what is called the same is the same."""
    known = {}
    for parameters in CONFIGS:
        for name, body in shared_of(AcceleratorConfig(**({"rows": 4, "cols": 4} | parameters | SMALL))).items():
            assert known.setdefault(name, body) == body, name
    rows = {name for name in known if "_rows_" in name}
    assert rows == {
        *(f"celosia_fused_rows_{row}" for row in ("4_4_18_4_10", "4_8_18_8_10", "8_4_19_4_11")),
        *(f"celosia_multiplier_rows_1_4_{row}" for row in (
            "19_2_2_generic", "18_1_1_ecp5", "18_2_2_ecp5", "18_1_1_xilinx")), "celosia_latched_rows_4_4_18_4_10"}
    assert {"celosia_ram", "celosia_small_ram", "celosia_ram_ecp5", "celosia_ram_xilinx",
            "celosia_latched_word"} <= known.keys()


def test_two_accelerators_have_the_rows_of_each():
    design = Several({"first": AcceleratorConfig(rows=4, cols=8, **SMALL),
                      "second": AcceleratorConfig(rows=8, cols=8, macs_per_multiplier=2, **SMALL)})
    text = text_of(design, "pair")
    assert len(re.findall("^  pair_fused_rows_4_8_18_8_10 rows_", text, re.MULTILINE)) == 1
    assert len(re.findall("^  pair_multiplier_rows_1_8_19_2_2_generic rows_", text, re.MULTILINE)) == 8
    assert len(re.findall("^module pair_(fused|multiplier)_rows_", text, re.MULTILINE)) == 2
    assert len(re.findall("^module pair_curve", text, re.MULTILINE)) == 1


def test_modules_are_called_after_the_top():
    design = Design(Shared("adder", Adder, 3), Ram(8, 64), Ram(8, 4), Rom(8, [1, 2], "celosia_table"))
    assert set(modules(text_of(design, "soc"))) == {"soc", "soc_adder_3", "soc_ram", "soc_small_ram", "soc_table"}
    assert set(modules(text_of(design, "soc", target="ecp5"))) == {
        "soc", "soc_adder_3_ecp5", "soc_ram_ecp5", "soc_small_ram_ecp5", "soc_table_ecp5"}


def test_other_arguments_are_another_module():
    parts = [Shared("adder", Adder, number) for number in (3, 4, 3)]
    found = modules(text_of(Design(*parts)))
    assert set(found) == {"top", "top_adder_3", "top_adder_4"}
    assert "a + 2'h3;" in found["top_adder_3"]
    assert "a + 3'h4;" in found["top_adder_4"]


class Other(Adder):
    """Another component of the same ports."""


@pytest.mark.parametrize(("parts", "sentence"), [
    ([Shared("adder", Adder, 3), Shared("adder", Other, 3)],
     "the module celosia_adder_3 must be one in a design, not both Adder(3) and Other(3)"),
    ([Shared("adder", Adder, 1, 23), Shared("adder_1", Adder, 23)],
     "the module celosia_adder_1_23 must be one in a design, not both Adder(1, 23) and Adder(23)"),
    ([Rom(8, [1, 2], "celosia_table"), Rom(8, [1, 3], "celosia_table")],
     "the file celosia_table.v must have one content in a design, not two"),
    ([Shared("table", Adder, 1), Rom(8, [1, 2], "celosia_table_1")],
     "the module top_table_1 must be one in a design, not two"),
])
def test_two_modules_of_one_name_are_refused(parts, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        text_of(Design(*parts))


def test_a_library_keeps_what_it_has():
    library = ModuleLibrary()
    library.add_file("one.v", "module one;\nendmodule\n")
    library.add_file("one.v", "module one;\nendmodule\n")
    with pytest.raises(ValueError, match=r"^the file one\.v must have one content in a design, not two$"):
        library.add_file("one.v", "module one();\nendmodule\n")
    assert library.files == {"one.v": "module one;\nendmodule\n"}
    adder = Adder(1)
    library.add_component("adder", adder, Adder, 1)
    library.add_component("adder", Adder(1), Adder, 1)
    with pytest.raises(ValueError, match=r"^the module adder must be one in a design, not both Adder\(1\) and"):
        library.add_component("adder", Adder(2), Adder, 2)
    assert library.components == {"adder": adder}


@pytest.mark.parametrize("name", ["", "my-soc", "2d", "a.b", "é"])
def test_a_top_that_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match=f"^the name of a top module must be a Verilog identifier, not '{name}'$"):
        text_of(Design(), name)


def test_signals_keep_their_names():
    """A signal, or a part of a design, that is called as a module of the library is left alone."""
    class Named(Design):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.submodules.celosia_ram = Ram(8, 64)
            m.submodules.other = Instance("mine", i_celosia_ram=self.q)
            return m
    text = text_of(Named())
    assert "module top_ram #(" in text
    assert "  top_ram #(" in text
    assert "  \\top.celosia_ram  celosia_ram (" in text
    assert ".celosia_ram(q)" in text


def test_named_configurations_share_what_is_equal():
    tiny, small = shared_of(configuration("tiny")), shared_of(configuration("small"))
    same = tiny.keys() & small.keys()
    assert all(tiny[name] == small[name] for name in same)
    assert tiny.keys() - same == {
        "celosia_fused_rows_4_4_18_4_10", "celosia_sums_4_4_18_10", "celosia_sums_4_4_18_10_column"}
