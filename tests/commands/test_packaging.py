"""What is installed: the wheel holds all of Celosia and nothing else, and works where the checkout is not."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import tokenizer, write_folder

_ROOT = Path(__file__).parents[2]
_ROOMS = ("firmware", "generators", "hdl", "sim", "synth")


def _wheel(source, target):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                    "--wheel-dir", target, source], check=True, timeout=600)
    (made,) = target.glob("celosia-*.whl")
    return made


def _names(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what is packaged, in which an older version was built before."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, copy)
    for name in ("celosia", "tests", *_ROOMS):
        shutil.copytree(_ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "build" / "lib" / "celosia").mkdir(parents=True)
    (copy / "build" / "lib" / "celosia" / "old.py").touch()
    (copy / "celosia.egg-info").mkdir()
    (copy / "celosia.egg-info" / "SOURCES.txt").write_text("celosia/hdl/old.txt\n")
    (copy / "hdl" / "old.txt").touch()
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    return _wheel(checkout, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_and_no_other(checkout, wheel):
    files = [path.relative_to(checkout) for room in _ROOMS for path in (checkout / "celosia" / room).rglob("*")]
    files += [path.relative_to(checkout) for path in (checkout / "celosia").rglob("*")]
    expected = {str(path) for path in files if (checkout / path).is_file() and path.name != "old.txt"}
    assert _names(wheel) == expected
    assert {Path(name).suffix for name in expected} >= {".py", ".toml", ".cpp", ".html", ".md", ".txt"}
    assert sorted(path.name for path in (checkout / "build").iterdir()) == ["lib"]  # nothing new


def test_a_wheel_that_is_built_from_the_source_archive_is_the_same(checkout, wheel, tmp_path):
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=checkout, check=True, capture_output=True, timeout=600)
    (archive,) = tmp_path.glob("celosia-*.tar.gz")
    with tarfile.open(archive) as file:
        assert not [name for name in file.getnames() if "tests" in Path(name).parts]
        file.extractall(tmp_path, filter="data")
    assert _names(_wheel(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path)) == _names(wheel)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder with the programs of an environment in which the wheel is; what it depends on is lent by this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    subprocess.run([sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet",
                    "--no-deps", "--no-index", wheel], check=True, timeout=600)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    return folder / "bin"


def _run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True,
                          check=False, timeout=1200)


def test_the_installed_package_generates_and_runs_from_any_folder(installed, tmp_path):
    where = _run(installed / "python", "-c", "import celosia.sim.build as b; print(b.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where.stderr

    done = _run(installed / "celosia", "generate", "--config", "tiny", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "celosia_tiny.v").stat().st_size > 100_000

    (tmp_path / "model").mkdir()
    write_folder(tmp_path / "model")
    tokenizer().save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "texts.txt").write_text("red cat sits\n" * 16)
    done = _run(installed / "celosia", "run", "--config", "tiny", "--model", "model", "--calibration", "texts.txt",
                "--text", "blue dog runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all equal to golden" in done.stdout
