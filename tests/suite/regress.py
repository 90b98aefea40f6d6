"""The option ``--regress``, which chooses among the tests marked ``regress``: slow, and seldom broken."""

from argparse import ArgumentTypeError
from datetime import date
from typing import Any

import pytest

__all__ = ["SAMPLE_DAYS", "sample"]

#: Days that reach each of these tests, about as many of them on each day.
SAMPLE_DAYS = 8


def sample(names: list[str], day: date) -> set[str]:
    """Those of the tests ``names`` whose turn is on ``day``.

    Neighbours in the alphabet, such as the parameters of one test, have their turns on different days. While the
    tests stay the same, any ``SAMPLE_DAYS`` days that follow each other reach each of them once.
    """
    return set(sorted(names)[day.toordinal() % SAMPLE_DAYS::SAMPLE_DAYS])


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"the day must be written as in 2026-01-31, not {text!r}") from None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("celosia")
    group.addoption("--regress", choices=["none", "sample", "all"], default="all",
                    help="which of the tests marked regress run: none, the day's sample, or all (the default)")
    group.addoption("--regress-date", type=_day, default=None,
                    help="the day whose sample runs, such as 2026-01-31, instead of today")


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", {}).get("regress_date")
    config.option.regress_date = date.fromisoformat(told) if told else config.option.regress_date or date.today()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the day: all agree on it at midnight too."""
    node.workerinput["regress_date"] = node.config.option.regress_date.isoformat()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = [item.nodeid for item in items if item.get_closest_marker("regress")]
    match config.option.regress:
        case "none":
            left = set(slow)
        case "sample":
            left = set(slow) - sample(slow, config.option.regress_date)
        case _:
            return
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left])
    items[:] = [item for item in items if item.nodeid not in left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.regress == "sample":
        day = config.option.regress_date.isoformat()
        terminalreporter.write_line(f"of the slow tests that seldom break, the sample of {day} "
                                    f"(again: --regress sample --regress-date {day})")
