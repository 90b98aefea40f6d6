"""No test fails by the clock: tests count cycles and calls, and a time limit only catches what hangs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[2]
CLOCKS = {"time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time",
          "process_time_ns", "thread_time", "thread_time_ns", "timeit", "default_timer", "clock_gettime"}
#: A limit for what takes a second or two: only a hang meets it on a machine that is busy with a hundred other jobs.
LEAST_SECONDS = 300


def words(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Lines of the Python ``text`` where a test could fail by the clock, each with the reason."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "timeit"):
            for name in sorted(CLOCKS & {alias.name for alias in node.names}):
                yield node.lineno, f"{name} is a clock: count cycles or calls"
        elif isinstance(node, ast.Attribute) and words(node.value) in ("time", "timeit") and node.attr in CLOCKS:
            yield node.lineno, f"{node.attr} is a clock: count cycles or calls"
        elif isinstance(node, ast.Call):
            for option in node.keywords:
                if not isinstance(option.value, ast.Constant):
                    continue
                value = option.value.value
                if option.arg == "deadline" and value is not None:
                    yield node.lineno, f"an example must have no deadline, not {value}"
                elif (option.arg == "timeout" and isinstance(value, int | float) and value < LEAST_SECONDS
                      and words(node.func) != "SerialTransport"):  # there a silence is waited for
                    yield node.lineno, f"a time limit must be at least {LEAST_SECONDS} s, not {value}"


def test_no_test_fails_by_the_clock() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}: {reason}" for folder in ("tests", "cocotb_tests")
             for path in sorted((ROOT / folder).rglob("*.py")) for line, reason in faults(path.read_text())]
    assert found == []


@pytest.mark.parametrize(("text", "line", "reason"), [
    ("import time\nstart = time.perf_counter()", 2, "perf_counter is a clock: count cycles or calls"),
    ("from time import sleep, monotonic", 1, "monotonic is a clock: count cycles or calls"),
    ("assert 1\nassert time.time() - start < 5", 2, "time is a clock: count cycles or calls"),
    ("@settings(max_examples=5, deadline=200)\ndef test(): pass", 1, "an example must have no deadline, not 200"),
    ("subprocess.run(['x'], timeout=20)", 1, "a time limit must be at least 300 s, not 20"),
    ("thread.join(timeout=0.5)", 1, "a time limit must be at least 300 s, not 0.5"),
])
def test_a_limit_is_found(text: str, line: int, reason: str) -> None:
    assert list(faults(text)) == [(line, reason)]


@pytest.mark.parametrize("text", [
    "time.sleep(0.2)", "settings(deadline=None)", "subprocess.run(['x'], timeout=600)", "SerialTransport(p, timeout=1)",
    "cocotb.test(timeout_time=1)", "with_timeout(x, 5, 'us')",
])
def test_what_is_no_limit_is_left_alone(text: str) -> None:
    assert list(faults(text)) == []


def test_examples_have_no_deadline() -> None:
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
