"""The command line: what it prints, its exit codes, and that bad input leaves nothing behind."""

import json
import os
import subprocess
import sys

import pytest
from celosia.generators.configurations import configuration
from celosia.hdl.config import ConfigError


def celosia(*arguments, stdin="", cwd=None, **environment):
    return subprocess.run([sys.executable, "-m", "celosia", *map(str, arguments)], input=stdin, text=True,
                          capture_output=True, cwd=cwd, env={**os.environ, **environment}, check=False)


def test_help_names_every_command():
    done = celosia("--help")
    assert done.returncode == 0
    for command in ("run", "generate", "build", "configs", "listing"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["run", "generate", "build", "configs", "listing"])
def test_every_command_has_help(command):
    done = celosia(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_configs_as_json(tmp_path):
    path = tmp_path / "configs.json"
    done = celosia("configs", "--json", path)
    assert done.returncode == 0
    names = [entry["name"] for entry in json.loads(path.read_text())]
    assert names == ["tiny", "small", "ulx3s", "rect", "base", "large"]
    assert "16 x 16" in done.stdout


def test_generate_writes_a_folder_for_hosts_and_tools(tmp_path):
    for frequency in ("100", "250"):  # the second replaces the first
        done = celosia("generate", "--config", "tiny", "--frequency", frequency, "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"celosia_tiny{end}" for end in (
        ".core", ".f", ".h", ".lpf", ".rdl", ".sdc", ".v", ".vlt", ".xdc", "_README.md", "_configuration.toml",
        "_registers.md", "_vivado.tcl")]
    assert sorted(line.split(": ")[0] for line in done.stdout.splitlines()) == [str(tmp_path / "out" / name)
                                                                                for name in names]
    assert "-period 4.000 " in (tmp_path / "out" / "celosia_tiny.xdc").read_text()


def test_generate_replaces_no_page_of_somebody_else(tmp_path):
    (tmp_path / "mine_README.md").write_text("# Mine\n")
    done = celosia("generate", "--config", "tiny", "--prefix", "mine", "-o", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ("error: the page 'mine_README.md' must be one that Celosia generated, to be replaced: "
                           "choose another folder\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine_README.md"]


@pytest.mark.parametrize(("arguments", "stdin", "sentence"), [
    (["run", "--config", "huge", "--text", "a"], "",
     "error: 'huge' is no configuration; there are tiny, small, ulx3s, rect, base, large, or a path ending in .toml"),
    (["run", "--set", "rows=5", "--text", "a"], "", "error: rows must be a power of two from 4 to 64, not 5"),
    (["run"], " \n", "error: there must be at least one text that is not empty"),
    (["run", "--text", "a", "--file", "b"], "", "error: texts come from --text or from --file, not from both"),
    (["run", "--file", "nowhere.txt"], "", "error: the file 'nowhere.txt' can't be read as text: "),
    (["run", "--text", "a", "--check", "some"], "", "error: --check must be outputs or full, not 'some'"),
    (["run", "--text", "a", "--json", "no/where.json"], "", "error: the folder 'no' of 'where.json' must exist"),
    (["configs", "--json", "."], "", "error: the output '.' must name a file, not a folder"),
    (["run", "--text", "\udcff"], "", "error: a text must be valid UTF-8, not "),
    (["generate", "-o", "x" * 300], "", "error: [Errno 36] File name too long"),
    (["generate", "--set", "rows=" + "9" * 5000, "-o", "out"], "", "error: rows must be a power of two from 4 to 64"),
    (["run", "--set", "max_tokens=128", "--text", "word " * 600], "",
     "error: a text must have at most 128 tokens, not 602: 'word word"),
    (["run", "--text", "a", "--model", "nowhere"], "", "error: "),
    (["run", "--text", "a", "--transport", "usb"], "",
     "error: a transport must be serial:PORT[@BAUD] or pynq:OVERLAY.bit, not 'usb'"),
    (["run", "--text", "a", "--transport", "serial:/dev/nowhere", "--profile-guided"], "",
     "error: --profile-guided needs the simulation, not --transport serial:/dev/nowhere"),
    (["run", "--text", "a", "--transport", "serial:/dev/nowhere"], "",
     "error: the serial port '/dev/nowhere' can't be opened: "),
    (["build", "--board", "arty", "-o", "out"], "", "error: board must be one of ulx3s, not 'arty'"),
    (["build", "--board", "ulx3s", "-o", "out", "--clock-mhz", "51"], "",
     "error: clock_mhz must be a multiple of 5 from 10 to 200, not 51"),
    (["build", "--board", "ulx3s", "-o", "out", "--baud", "3000000"], "",
     "error: baud must be at least 300, and within 1 % of 50 MHz divided by a whole number of at least 4, not 3000000"),
    (["build", "--board", "ulx3s", "-o", "out", "--memory-kib", "130"], "",
     "error: memory_kib must be a multiple of 4, not 130"),
    (["generate", "--config", "tiny", "--frequency", "0", "-o", "out"], "",
     "error: the frequency must be from 1 to 2000 MHz, not 0\n"),
    (["generate", "--config", "tiny", "--prefix", "2fast", "-o", "out"], "",
     "error: the prefix must be at most 64 letters, digits and single underscores, with a letter at the beginning and "
     "no underscore at the end, not '2fast'\n"),
    (["generate", "--config", "tiny", "--prefix", "module", "-o", "out"], "",
     "error: the prefix must be no keyword, which 'module' is in Verilog\n"),
    (["generate", "--set", f"name={'long' * 20}", "-o", "out"], "",
     f"error: the name '{'long' * 20}' is too long for a prefix of at most 64 characters: choose one with --prefix\n"),
    (["generate", "--config", "tiny", "--set", "lanes=3", "-o", "out"], "",
     "error: lanes must be a power of two from 4 to min(rows, cols), or 0 for min(rows, cols), not 3"),
])
def test_bad_input_gets_one_sentence_and_code_2(tmp_path, arguments, stdin, sentence):
    done = celosia(*arguments, stdin=stdin, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    done = celosia("generate", "--config", "tiny", "-o", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out").read_text()) == (2, "mine")
    assert done.stderr == f"error: the output '{tmp_path / 'out'}' must be a folder\n"


def test_a_folder_in_the_way_leaves_nothing_half_written(tmp_path):
    (tmp_path / "out" / "celosia_tiny.h").mkdir(parents=True)
    done = celosia("generate", "--config", "tiny", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["celosia_tiny.h"]


def test_standard_input_that_is_no_text_is_refused(tmp_path):
    done = subprocess.run([sys.executable, "-m", "celosia", "run", "--config", "tiny"], input=b"\xff\xfe bad",
                          capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard input can't be read as text: ")


def test_json_goes_to_a_pipe_as_it_is():
    done = celosia("configs", "--json", "/dev/stdout")
    assert done.returncode == 0
    assert '"name": "tiny"' in done.stdout


def test_a_cache_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    done = celosia("generate", "--config", "tiny", "-o", tmp_path / "out", CELOSIA_CACHE=str(cache))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_an_old_verilator_is_refused_before_anything_is_built(tmp_path):
    old = tmp_path / "verilator"
    old.write_text("#!/bin/sh\necho 'Verilator 5.006 2023-01-22 rev (Debian 5.006-3)'\n")
    old.chmod(0o755)
    done = celosia("run", "--config", "tiny", "--text", "a", CELOSIA_VERILATOR=str(old))
    assert done.returncode == 2
    assert "5.036" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("setting", "name"), [
    ("name=42", "42"), ("name=0x10", "0x10"), ("name=1_000", "1_000"), ("name=true", "true"), ("name=-1", "-1"),
    ("name='42'", "42"), ('name="x"', "x"), ("name = x", "x"), ("name=" + 30 * "9", 30 * "9")])
def test_a_word_may_look_like_a_number(setting, name):
    assert configuration("tiny", [setting]).name == name


@pytest.mark.parametrize("setting", ["rows=16", "rows=0x10", "rows=1_6", "rows=+16", "rows=0o20", "rows=0b10000"])
def test_a_number_is_written_as_in_toml(setting):
    assert configuration("tiny", [setting, "cols=16"]).rows == 16


@pytest.mark.parametrize(("setting", "sentence"), [
    ("rows=true", "rows must be a power of two from 4 to 64, not 'true'"),
    ("rows='8'", "rows must be a power of two from 4 to 64, not \"'8'\""),
    ("rows=_8", "rows must be a power of two from 4 to 64, not '_8'"),
    ("rows=8.0", "rows must be a power of two from 4 to 64, not '8.0'"),
    ("rows=\u0668", "rows must be a power of two from 4 to 64, not '\u0668'"),
    ("name='a b'", "name must be a word of ASCII letters, digits, '-' and '_', not 'a b'"),
    ("target=1", "target must be 'generic', 'ecp5' or 'xilinx', not '1'"),
])
def test_a_setting_that_breaks_its_rule_is_named(setting, sentence):
    with pytest.raises(ConfigError) as refused:
        configuration("tiny", [setting])
    assert str(refused.value) == sentence


def test_a_configuration_file_may_begin_with_a_byte_order_mark(tmp_path):
    text = configuration("tiny").to_toml()
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert configuration(str(tmp_path / "marked.toml")) == configuration("tiny")
    (tmp_path / "odd.toml").write_bytes(text.replace("\n", "\r").encode())
    with pytest.raises(ConfigError, match=r"^the configuration must be TOML: "):
        configuration(str(tmp_path / "odd.toml"))


def test_a_board_is_no_markup(tmp_path):
    done = celosia("build", "--board", "[/x]", "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: board must be one of ulx3s, not '[/x]'\n")
