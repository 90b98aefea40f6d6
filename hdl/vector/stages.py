"""The stages of the vector pipeline: which there are, and what travels through them beside the data."""

from collections.abc import Callable
from typing import NamedTuple

from amaranth import Cat, Module, Signal, Value

from ..config import AcceleratorConfig
from ..functions import any_of
from ..memory.accumulators import ACCUMULATOR_READ_LATENCY
from ..memory.interfaces import READ_LATENCY
from .curves import CURVE_LATENCY
from .row_statistics import tree_latency
from .row_unit import ROW_UNIT_LATENCY
from .scale import FIRST_SCALE_LATENCY, SECOND_SCALE_LATENCY

__all__ = ["HELD", "OPERANDS", "RESCALED", "RESULT", "SCALED", "SECOND", "Stages", "entry_stage", "totals_stage"]

OPERANDS = ACCUMULATOR_READ_LATENCY + 1
SCALED = OPERANDS + FIRST_SCALE_LATENCY
SECOND = SCALED + CURVE_LATENCY
RESCALED = SECOND + SECOND_SCALE_LATENCY
RESULT = RESCALED + 2

#: Here a lane holds the second record of a group, which the first beat has taken from the feeder a cycle before: as
#: late as the next group's words allow, the first of which comes READ_LATENCY + 1 cycles after a group's first beat
#: at best.
HELD = READ_LATENCY + 2

_CODE_BITS = 4


def totals_stage(config: AcceleratorConfig) -> int:
    """The stage in which a beat's sums or maximum over the lanes are visible."""
    return RESULT + 2 + tree_latency(config)


def entry_stage(config: AcceleratorConfig) -> int:
    """The stage in which a row's entry of the row table is written: a read a cycle later finds it."""
    return totals_stage(config) + 2 + ROW_UNIT_LATENCY


class _Known(NamedTuple):
    """What is known of the function, a bit for each stage; and the same where a beat is in the stage."""

    always: Value
    valid: Value


class Stages:
    """What every stage knows of the beat in it: a bit for each stage, of which stage 0 is the issue.

    Attributes
    ----------
    totals, entry
        :func:`totals_stage` and :func:`entry_stage`.
    valid, last, first_group, last_group
        A beat is there; it is the last of its instruction; it lies in the first or last group.
    new_group
        A beat is there, and the first of its group: the moment to copy parameters.
    fetches
        Not a beat, but the lower bytes of the operand of the one that follows.
    wide, upper, wide_operand
        The result has 16 bits; the upper ones are wanted; the operand has 16 bits.
    """

    def __init__(self, m, config, issuer):
        self.totals = totals_stage(config)
        self.entry = entry_stage(config)

        # A module of its own, since what is asked for amid an If must not end it.
        self._m = m.submodules.decoder = Module()

        self._function = issuer.function[:_CODE_BITS]
        self._upper = issuer.upper
        self._decoded: dict[str, _Known] = {}
        self.valid = self._travel(issuer.issue, self.totals + 2, "valid")
        self.new_group = self._travel(issuer.issue & issuer.first_of_group, RESULT, "new_group")
        self.last = self._travel(issuer.issue & issuer.last, RESULT, "last")
        self.fetches = self._travel(issuer.fetch, SECOND, "fetches")
        self.wide = self._travel(issuer.wide, RESULT, "wide", reset_less=True)
        self.upper = self._travel(issuer.upper, RESULT, "upper", reset_less=True)
        self.wide_operand = self._travel(issuer.wide_operand, SECOND, "wide_operand", reset_less=True)
        self.first_group = self._travel(issuer.in_first_group, self.totals - 1, "first_group", reset_less=True)
        self.last_group = self._travel(issuer.in_last_group, self.totals + 2, "last_group", reset_less=True)

    def is_(self, stage, *functions):
        """The function of the beat in ``stage`` is one of ``functions``."""
        return self._among(functions).always[stage]

    def has(self, stage, trait):
        """The function of the beat in ``stage`` has the trait of :class:`~celosia.hdl.functions.Traits`. A row's
        statistics are made of the beats with the lower bytes of its results alone."""
        return self._with(trait).always[stage]

    def runs(self, stage, *functions):
        """A beat is in ``stage``, and its function is one of ``functions``."""
        return self._among(functions).valid[stage]

    def runs_with(self, stage, trait):
        """A beat is in ``stage``, and its function has the trait of :class:`~celosia.hdl.functions.Traits`."""
        return self._with(trait).valid[stage]

    def _among(self, functions):
        name = "_or_".join(function.name.lower() for function in functions)
        return self._known(f"is_{name}", lambda code: code.matches(*(function.value for function in functions)))

    def _with(self, trait):
        def decode(code: Value) -> Value:
            return any_of(code, trait) & ~self._upper if trait == "statistics" else any_of(code, trait)
        return self._known(f"has_{trait}", decode)

    def _known(self, name: str, decode: Callable[[Value], Value]) -> _Known:
        """What ``decode`` makes of the function at the issue, in every stage. Both words are registers, since they
        enable many others."""
        if name not in self._decoded:
            stages = self.totals + 2
            known = self._travel(decode(self._function), stages, name, reset_less=True)
            valid = Signal(stages, name=f"{name}_and_valid", reset_less=True)
            self._m.d.sync += valid.eq(known & self.valid)
            self._decoded[name] = _Known(known, Cat(known[0] & self.valid[0], valid))
        return self._decoded[name]

    def _travel(self, value, stages, name, reset_less=False):
        issued, register = Signal(name=f"{name}_0"), Signal(stages, name=name, reset_less=reset_less)
        self._m.d.comb += issued.eq(value)
        self._m.d.sync += register.eq(Cat(issued, register))
        return Cat(issued, register)
