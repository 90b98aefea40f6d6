"""The cache: where others use it too, where its path is odd, when a build is stopped, and the processor in its key."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from celosia.sim import cache, processes, verilator
from celosia.sim.build import compile_model
from celosia.sim.cache import cached_folder
from celosia.sim.model import Simulation
from celosia.sim.verilator import Toolchain, ToolError, plain_alias, plain_path

VERILOG = Path(__file__).with_name("copy_engine.v").read_text()
#: A folder's name with what shells, make and C++ compilers read in another way than as itself.
ODD = "a b#c'd$e\"f%g\\h`i:jé&;(*)"


def fill(folder):
    (folder / "result").write_text("done")
    return ["result"]


def refuse(folder):
    raise AssertionError("a whole entry must be used")


@pytest.fixture
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("CELOSIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_whole_entry_of_somebody_else_is_used(own, monkeypatch):
    folder = cached_folder("k", "key", fill)

    def forbidden(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    for name in ("utime", "mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, forbidden)
    monkeypatch.setattr(cache.filelock, "FileLock", forbidden)
    assert cached_folder("k", "key", refuse) == folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_reads_what_is_there(own, tmp_path):
    cached_folder("k", "key", fill)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)
    child = os.fork()
    if not child:
        os.setuid(65534)
        os._exit(0 if cached_folder("k", "key", refuse).is_dir() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_who_may_read_an_entry_follows_the_umask(own, umask):
    before = os.umask(umask)
    try:
        folder = cached_folder("k", f"key{umask}", fill)
    finally:
        os.umask(before)
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask


def test_a_model_is_compiled_in_a_folder_with_an_odd_name(monkeypatch, tmp_path):
    objects = cache.cache_root() / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    (tmp_path / ODD).mkdir()
    (tmp_path / ODD / "objects").symlink_to(objects)
    monkeypatch.setenv("CELOSIA_CACHE", str(tmp_path / ODD))
    library = compile_model(VERILOG)
    assert library.is_relative_to(tmp_path / ODD)
    with Simulation(library, np.zeros(4096, np.uint8)) as simulation:
        simulation.reset()


def test_tools_in_a_folder_with_an_odd_name_are_called_by_a_link(monkeypatch, tmp_path):
    root = tmp_path / ODD / "verilator"
    shutil.copytree(Toolchain.find().root / "bin", root / "bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / ODD / "python"))
    toolchain = Toolchain(root / "bin" / "verilator", root, (5, 48), str(tmp_path / ODD / "g++"))
    environment = toolchain.environment()
    assert os.path.realpath(environment["VERILATOR_ROOT"]) == str(root)
    assert not set(ODD) - set("abcdefghij ") & set(environment["MAKEFLAGS"])
    done = subprocess.run([toolchain.program, "--version"], env={**os.environ, **environment}, capture_output=True,
                          text=True, check=True)
    assert "rev" in done.stdout
    assert done.stderr == ""


def test_a_plain_path_stays_and_a_link_goes_with_its_block(monkeypatch, tmp_path):
    assert plain_path(tmp_path / "plain") == tmp_path / "plain"
    with plain_alias(tmp_path / ODD) as alias:
        assert os.readlink(alias) == str(tmp_path / ODD)
        assert plain_path(tmp_path / ODD) == alias
    assert not os.path.lexists(alias)
    monkeypatch.setattr(verilator, "_PLAIN", verilator.re.compile("nothing"))
    with pytest.raises(ToolError, match=r"^make can't use the path '/a b', and no link to it can be made in a folder "
                                        r"for temporary files: set TMPDIR to a folder whose path has only letters, "
                                        r"digits and \._-$"):
        plain_path(Path("/a b"))


_BUILD = """
import sys
from celosia.sim.cache import cached_folder
from celosia.sim.processes import run

def make(folder):
    (folder / "half").write_text("x")
    run(["sh", "-c", "sleep 1000 & echo $! > {pid}; wait"])

cached_folder("k", "key", make)
"""


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_build_that_is_stopped_ends_its_programs_and_leaves_nothing(own, tmp_path, number):
    pid = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", _BUILD.format(pid=pid)], stderr=subprocess.DEVNULL,
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # whatever the shell ignores
    while not (pid.exists() and pid.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=600) == -number
    for _ in range(600):  # a program closes its output, which is what was waited for, before it is gone
        if not _alive(int(pid.read_text())):
            break
        time.sleep(0.1)
    assert not _alive(int(pid.read_text()))
    assert [path for path in (own / "k").iterdir() if path.is_dir()] == []


def test_what_nobody_stops_keeps_its_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with processes.stoppable(interrupts=True):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    with processes.stoppable(interrupts=True), \
            pytest.raises(processes.Stopped, match=r"^stopped by SIGTERM$") as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143


_INTEL = """processor\t: {core}
vendor_id\t: GenuineIntel
model name\t: Some Xeon
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse2 {flags}
bogomips\t: {mhz}
"""
_CORTEX = """processor\t: {core}
BogoMIPS\t: {mhz}
Features\t: fp asimd {flags}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 4

"""
_RISCV = """processor\t: {core}
hart\t\t: {core}
isa\t\t: rv64imafdc{flags}
mmu\t\t: sv39
uarch\t\t: sifive,u74-mc
"""
_POWER = """processor\t: {core}
cpu\t\t: POWER9, altivec supported {flags}
clock\t\t: {mhz}MHz
revision\t: 2.2 (pvr 004e 1202)
timebase\t: 512000000
"""
_UNKNOWN = """processor\t: {core}
core\t\t: {core}
Family\t: Loong
Features\t: cpucfg lam {flags}
CPU MHz\t: {mhz}
"""


@pytest.mark.parametrize("text", [_INTEL, _CORTEX, _RISCV, _POWER, _UNKNOWN], ids=["x86", "arm", "riscv", "power", "?"])
def test_processors_that_differ_are_told_apart_and_one_stays_itself(text):
    def of(flags="", mhz=2000, cores=2, part="0xd0b"):
        return verilator._of_cpuinfo("".join(text.format(core=core, mhz=mhz, flags=flags, part=part)
                                             for core in range(cores)))

    assert of()
    assert of() == of(mhz=3111.5) == of(cores=4)
    assert of("sve") != of()
    if text is _CORTEX:
        assert of(part="0xd4f") != of()
        both = [text.format(core=core, mhz=1, flags="", part=f"0xd0{core}") for core in range(2)]
        assert verilator._of_cpuinfo("".join(both)) == verilator._of_cpuinfo("".join(reversed(both)))
        assert verilator._of_cpuinfo("".join(both)) != verilator._of_cpuinfo(both[0])


def test_the_processor_is_part_of_the_identity(monkeypatch):
    toolchain = Toolchain.find()
    assert verilator.processor_identity() in toolchain.identity
    monkeypatch.setattr(verilator, "processor_identity", lambda: "another one")
    assert Toolchain.find().identity != toolchain.identity
