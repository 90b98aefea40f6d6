"""Amaranth's enumerations, which a type checker takes for the standard library's, whose members they behave like."""

from typing import TYPE_CHECKING, Any

__all__ = ["Enum"]

if TYPE_CHECKING:
    import enum

    class Enum(enum.Enum):
        """As ``amaranth.lib.enum.Enum``: ``shape`` is the width of a signal of the enumeration."""

        def __init_subclass__(cls, shape: Any = None) -> None: ...

else:
    from amaranth.lib.enum import Enum
