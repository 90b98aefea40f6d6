"""The stages of the vector pipeline: which there are, and what travels through them beside the data."""

from collections.abc import Callable
from typing import NamedTuple

from amaranth import Cat, Module, Signal, Value

from ..functions import any_of
from ..memory.accumulators import ACCUMULATOR_READ_LATENCY
from .curves import CURVE_LATENCY
from .row_statistics import tree_latency
from .row_unit import ROW_UNIT_LATENCY
from .scale import FIRST_SCALE_LATENCY, SECOND_SCALE_LATENCY

__all__ = ["CURVED", "OPERANDS", "RESCALED", "RESULT", "SCALED", "SECOND", "Stages"]

OPERANDS = ACCUMULATOR_READ_LATENCY + 2
SCALED = OPERANDS + 1 + FIRST_SCALE_LATENCY
CURVED = SCALED + CURVE_LATENCY
SECOND = CURVED + 1
RESCALED = SECOND + SECOND_SCALE_LATENCY
RESULT = RESCALED + 2

_CODE_BITS = 4


class _Known(NamedTuple):
    """What is known of the function, a bit for each stage; and the same where a beat is in the stage."""

    always: Value
    valid: Value


class Stages:
    """What every stage knows of the beat in it: a bit for each stage, of which stage 0 is the issue.

    Attributes
    ----------
    totals, entry
        Stages in which a beat's sums or maximum over the lanes, and its row's entry of the row table, are visible.
    valid, last, first_group, last_group
        A beat is there; it is the last of its instruction; it lies in the first or last group.
    new_group
        A beat is there, and the first of its group: the moment to copy parameters.
    """

    def __init__(self, m, config, issuer):
        self.totals = RESULT + 2 + tree_latency(config)
        self.entry = self.totals + 2 + ROW_UNIT_LATENCY

        # A module of its own, since what is asked for amid an If must not end it.
        self._m = m.submodules.decoder = Module()

        self._function = issuer.function[:_CODE_BITS]
        self._decoded: dict[str, _Known] = {}
        self.valid = self._travel(issuer.issue, self.entry, "valid")
        self.new_group = self._travel(issuer.issue & issuer.first_of_group, RESULT, "new_group")
        self.last = self._travel(issuer.issue & issuer.last, self.entry, "last")
        self.first_group = self._travel(issuer.in_first_group, self.totals, "first_group", reset_less=True)
        self.last_group = self._travel(issuer.in_last_group, self.totals + 2, "last_group", reset_less=True)

    def is_(self, stage, *functions):
        """The function of the beat in ``stage`` is one of ``functions``."""
        return self._among(functions).always[stage]

    def has(self, stage, trait):
        """The function of the beat in ``stage`` has the trait of :class:`~celosia.hdl.functions.Traits`."""
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
        return self._known(f"has_{trait}", lambda code: any_of(code, trait))

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
