"""Which of the slow tests run on which day."""

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.suite.regress import SAMPLE_DAYS, sample

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest

@pytest.mark.regress
@pytest.mark.parametrize("number", range(20))
def test_slow(number): pass

def test_quick(): pass
"""
#: Every process finds another day; the first one is that of who starts the workers.
MIDNIGHT = """
import os
from datetime import date
from tests.suite import regress

class Clock(date):
    @classmethod
    def today(cls):
        return date(2026, 11, 25 + ["", "gw0", "gw1"].index(os.environ.get("PYTEST_XDIST_WORKER", "")))

regress.date = Clock
"""
QUICK, SLOW = {"test_quick"}, {f"test_slow[{number}]" for number in range(20)}


@pytest.fixture
def suite(tmp_path):
    """Runs a suite of its own with arguments: the names that passed, the exit code, and all that it says."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = regress: slow\naddopts = --strict-markers\n")
    (tmp_path / "conftest.py").write_text(MIDNIGHT)
    (tmp_path / "test_suite.py").write_text(SUITE)

    # Whether this test itself runs in a worker is no matter there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def run(*arguments):
        done = subprocess.run([sys.executable, "-m", "pytest", "-p", "tests.suite.regress", "-q", "-rA", *arguments],
                              cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        passed = {line.split("::")[1] for line in done.stdout.splitlines() if line.startswith("PASSED ")}
        return passed, done.returncode, done.stdout

    return run


@pytest.mark.parametrize("count", [0, 1, 7, 8, 50])
@pytest.mark.parametrize("start", [date(2026, 11, 25), date(2027, 12, 30)])
def test_days_that_follow_each_other_reach_each_test_once(count, start):
    names = [f"test_{number}" for number in range(count)]
    reached = []
    for day in range(SAMPLE_DAYS):
        chosen = sample(names, start + timedelta(day))
        assert chosen == sample(names[::-1], start + timedelta(day))
        assert len(chosen) - count // SAMPLE_DAYS in (0, 1)
        reached += chosen
    assert sorted(reached) == sorted(names)


def test_all_run_unless_somebody_chooses(suite):
    assert suite()[:2] == (QUICK | SLOW, 0)
    assert suite("--regress", "none")[:2] == (QUICK, 0)


@pytest.mark.parametrize(("day", "arguments"), [
    ("2026-11-25", ["-n", "2"]),
    ("2026-11-29", ["--regress-date", "2026-11-29"]),
])
def test_a_sample_belongs_to_its_date(suite, day, arguments):
    chosen = sample([f"test_suite.py::{name}" for name in SLOW], date.fromisoformat(day))
    passed, code, text = suite("--regress", "sample", *arguments)
    assert (passed, code) == (QUICK | {name.split("::")[1] for name in chosen}, 0)
    assert f"the sample of {day} (again: --regress sample --regress-date {day})\n" in text


def test_a_date_that_is_none_is_refused(suite):
    passed, code, text = suite("--regress", "sample", "--regress-date", "31.1.2026")
    assert (passed, code) == (set(), 4)
    assert "--regress-date: the day must be written as in 2026-01-31, not '31.1.2026'\n" in text


def test_make_and_ci_run_a_sample():
    commands = (ROOT / "Makefile").read_text().split("\n\n")
    (test,), (regress,) = ([text for text in commands if text.startswith(f"{name}:")] for name in ("test", "regress"))
    assert "pytest -n 2 --dist worksteal -q --regress sample " in test
    assert "pytest -n 2 --dist worksteal -q -m regress " in regress
    assert (ROOT / ".ci" / "run").read_text().endswith("\nmake test\n")
