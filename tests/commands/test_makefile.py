"""``make`` in a checkout whose path has what shells and make read in another way than as itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

_MAKEFILE = Path(__file__).parents[2] / "Makefile"


def _checkout(folder):
    """A folder with the Makefile, and an environment whose Python only says what it was asked for."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(_MAKEFILE, folder)
    (folder / "pyproject.toml").touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "python $*"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a'b", 'a "b', "a $b", "a `b", "a\\b", "a%b", "äé", "a;(b)&*"])
def test_every_target_works_whatever_the_path(tmp_path, name):
    folder = _checkout(tmp_path / name)
    (folder / ".venv" / ".installed").touch()
    for target in ("run", "unit", "cocotb", "icarus", "regress", "bench", "generate", "synth", "area", "formal", "docs",
                   "lint", "test"):
        done = subprocess.run(["make", "--no-print-directory", target], cwd=folder, capture_output=True, text=True,
                              check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "python -m " in done.stdout


def test_a_path_that_python_can_not_use_gets_one_sentence(tmp_path):
    folder = _checkout(tmp_path / "a:b")
    done = subprocess.run(["make", "--no-print-directory", "run"], cwd=folder, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"the checkout's path must have no ':', which no Python environment can have: {folder}")
