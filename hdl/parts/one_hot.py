"""Choosing among words without a priority."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from amaranth import Mux

__all__ = ["merged", "selected"]


def merged(words: Iterable[Any]) -> Any:
    """The bits that any of ``words`` has."""
    return reduce(or_, words, 0)


def selected(one_hot: Iterable[Any], values: Iterable[Any]) -> Any:
    """The value whose bit in ``one_hot`` is set; zero when none is."""
    return merged(Mux(bit, value, 0) for bit, value in zip(one_hot, values, strict=True))
