"""The prefix of a generated folder: what can be one, and that nothing else is called as another folder's."""

import re

import pytest
from celosia.generators import keywords, prefix, verilog
from celosia.generators.configurations import configuration, configuration_names
from celosia.generators.files import files_of
from celosia.generators.keywords import KEYWORDS
from celosia.generators.prefix import LONGEST_PREFIX, check_prefix, default_prefix
from celosia.generators.verilog import TOP, with_prefix
from celosia.hdl.config import AcceleratorConfig, ConfigError
from celosia.session import cached_verilog
from systemrdl.parser.SystemRDLLexer import SystemRDLLexer

from tests.generators.tools import needed, run, verilator

CONFIG = configuration("tiny")


@pytest.mark.parametrize("module", [keywords, prefix, verilog], ids=lambda module: module.__name__)
def test_every_public_name_is_there(module):
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("good", ["celosia", "a", "npu_2", "Left", "x1_y2_Z3", "modules", "n" * LONGEST_PREFIX])
def test_a_name_in_every_language_is_a_prefix(good):
    check_prefix(good)


@pytest.mark.parametrize("bad", ["", "2fast", "_a", "a_", "a__b", "a-b", "a.b", "a b", "é", "a²", "a\n", "$a", "\\a",
                                 "n" * (LONGEST_PREFIX + 1)])
def test_what_is_no_name_is_refused(bad):
    sentence = ("the prefix must be at most 64 letters, digits and single underscores, with a letter at the beginning "
                f"and no underscore at the end, not {bad!r}")
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        check_prefix(bad)
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        files_of(CONFIG, "", prefix=bad)


@pytest.mark.parametrize(("bad", "language"), [
    ("module", "Verilog"), ("logic", "Verilog"), ("int", "Verilog"), ("small", "Verilog"), ("auto", "C"),
    ("namespace", "C"), ("addrmap", "SystemRDL"), ("entity", "VHDL"), ("Entity", "VHDL"), ("puts", "Tcl"),
    ("yes", "YAML")])
def test_keywords_are_refused(bad, language):
    with pytest.raises(ConfigError, match=f"^the prefix must be no keyword, which '{bad}' is in {language}$"):
        check_prefix(bad)


def test_no_keyword_is_forgotten():
    words = {word.strip("'") for word in SystemRDLLexer.literalNames}
    assert {word for word in words if re.fullmatch("[a-z]\\w*", word)} == KEYWORDS["SystemRDL"]
    for words in KEYWORDS.values():
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", word) for word in words)


def test_a_vendors_cell_is_refused():
    with pytest.raises(ConfigError, match=r"^the prefix must not be 'MULT18X18D', the name of a vendor's cell that "
                                          r"accelerators use$"):
        check_prefix("MULT18X18D")


@pytest.mark.parametrize(("name", "expected"), [
    ("base", "celosia_base"), ("8x8-wide", "celosia_8x8_wide"), ("Mine", "celosia_Mine"), ("-", "celosia"),
    ("a--b_", "celosia_a_b"), ("module", "celosia_module")])
def test_the_prefix_comes_from_the_name(name, expected):
    assert default_prefix(AcceleratorConfig(name=name)) == expected
    check_prefix(expected)


def test_every_configuration_has_a_prefix_of_its_own():
    prefixes = [default_prefix(configuration(name)) for name in configuration_names()]
    assert prefixes == [f"celosia_{name}" for name in configuration_names()]
    for found in prefixes:
        check_prefix(found)


def test_a_name_that_is_too_long_is_refused():
    name = "n" * 57
    with pytest.raises(ConfigError, match=f"^the name '{name}' is too long for a prefix of at most 64 characters: "
                                          "choose one with --prefix$"):
        default_prefix(AcceleratorConfig(name=name))
    assert default_prefix(AcceleratorConfig(name=name[1:])) == f"celosia_{name[1:]}"


@pytest.mark.parametrize("settings", [[], ["target=ecp5"], ["target=ecp5", "macs_per_multiplier=2"]], ids=str)
def test_the_verilog_is_the_same_but_for_names(settings):
    text = cached_verilog(configuration("tiny", settings))
    renamed = with_prefix(text, "npu_2")
    assert TOP not in renamed
    assert renamed.replace("npu_2", TOP) == text
    modules = re.findall(r"^module (\\\S+|\w+)", renamed, re.MULTILINE)
    assert all(re.fullmatch(r"npu_2(_\w+)?|\\npu_2(_\w+)?\.\S+", module) for module in modules)
    assert len(modules) == len(set(modules)) == len(re.findall("^endmodule", text, re.MULTILINE))


@pytest.mark.parametrize("settings", [[], ["target=ecp5"]], ids=str)
def test_everything_begins_with_the_prefix(settings):
    """No file, and no name in one, is as it is in a folder of another prefix."""
    config = configuration("tiny", settings)
    one, other = (files_of(config, cached_verilog(config), prefix=name) for name in ("one", "the_other"))
    assert not one.keys() & other.keys()
    assert all(re.match("one[._]", name) for name in one)
    for name, text in one.items():
        twin = other[f"the_other{name.removeprefix('one')}"]
        if name.endswith("_cells.v"):  # the vendor's names, defined once
            assert text == twin
            continue
        # What speaks of no name at all is the same.
        named = not name.endswith(("_registers.md", "_configuration.toml", ".xdc", ".sdc", ".lpf"))
        assert (text != twin) == named, name


@needed("gcc", "gcc")
@pytest.mark.parametrize("command", [
    ["gcc", "-std=c99"], ["g++", "-x", "c++", "-std=c++11"]], ids=["C", "C++"])
def test_two_headers_are_included_together(tmp_path, command):
    configs = {"left": configuration("tiny"), "Right_2": configuration("rect")}
    for name, config in configs.items():
        (tmp_path / f"{name}.h").write_text(files_of(config, "", prefix=name)[f"{name}.h"])
    source = tmp_path / "check.c"
    source.write_text('#include <stdio.h>\n#include "left.h"\n#include "Right_2.h"\n#include "left.h"\n'
                      "int main(void) {\n"
                      '  printf("%d %s %d %s\\n", LEFT_COLS, LEFT_NAME, RIGHT_2_COLS, RIGHT_2_NAME);\n  return 0;\n}\n')
    assert run(tmp_path, *command, "-Wall", "-Wextra", "-Werror", "-pedantic", source, "-o", "check") == (0, "")
    assert run(tmp_path, "./check") == (0, "4 tiny 16 rect\n")


@needed("gcc", "gcc")
@pytest.mark.parametrize("prefixes", [("npu", "npu"), ("npu", "NPU")])
def test_two_headers_of_one_prefix_are_an_error(tmp_path, prefixes):
    for folder, name, shape in zip("ab", prefixes, ("tiny", "rect"), strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.h").write_text(files_of(configuration(shape), "", prefix=name)[f"{name}.h"])
    (tmp_path / "check.c").write_text("".join(f'#include "{folder}/{name}.h"\n'
                                              for folder, name in zip("ab", prefixes, strict=True)))
    code, log = run(tmp_path, "gcc", "-c", "check.c")
    assert code != 0
    assert (f'error: #error "two accelerators have the prefix {prefixes[1]}: celosia generate --prefix gives one of '
            'them another"') in log


def test_two_accelerators_of_one_prefix_are_an_error_in_verilog(tmp_path):
    for folder, width in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        text = f"module {TOP}(output wire [{width}:0] q);\n  assign q = 0;\nendmodule\n"
        (tmp_path / folder / "npu.v").write_text(files_of(CONFIG, text, prefix="npu")["npu.v"])
    assert verilator(tmp_path, "a/npu.v", "-Wno-WIDTHTRUNC")[0] == 0
    code, log = verilator(tmp_path, "-Wno-fatal", "a/npu.v", "b/npu.v")
    assert code != 0
    assert ('%Error: b/npu.v:3:8: "two accelerators have the prefix npu: celosia generate --prefix gives one of them '
            'another"\n') in log
