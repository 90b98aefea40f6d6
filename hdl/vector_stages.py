"""The stages of the vector pipeline: which there are, and what travels through them beside the data."""

from amaranth import Cat, Module, Signal

from .accumulators import ACCUMULATOR_READ_LATENCY
from .curves import CURVE_LATENCY
from .functions import any_of
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


class Stages:
    """What every stage knows of the beat in it. A list is indexed by the stage; stage 0 is the issue.

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

        def travel(value, stages, name, reset_less=False):
            register = Signal(stages, name=name, reset_less=reset_less)
            m.d.sync += register.eq(Cat(value, register))
            return [value, *(register[i] for i in range(stages))]

        self.valid = travel(issuer.issue, self.entry, "valid")
        self.new_group = travel(issuer.issue & issuer.first_of_group, RESULT, "new_group")
        self.last = travel(issuer.issue & issuer.last, self.entry, "last")
        self.first_group = travel(issuer.in_first_group, self.totals, "first_group", reset_less=True)
        self.last_group = travel(issuer.in_last_group, self.totals + 2, "last_group", reset_less=True)
        self._function = [issuer.function[:_CODE_BITS]]
        for stage in range(1, self.totals + 3):
            code = Signal(_CODE_BITS, name=f"function_{stage}", reset_less=True)
            m.d.sync += code.eq(self._function[-1])
            self._function.append(code)
        # A module of its own, since what is asked for amid an If must not end it.
        self._decoder = m.submodules.decoder = Module()
        self._decoded: dict[tuple[int, str], Signal] = {}

    def is_(self, stage, *functions):
        """The function of the beat in ``stage`` is one of ``functions``."""
        name = "_or_".join(function.name.lower() for function in functions)
        return self._registered(stage, f"is_{name}", lambda code: code.matches(*(f.value for f in functions)))

    def has(self, stage, trait):
        """The function of the beat in ``stage`` has the trait of :class:`~celosia.hdl.functions.Traits`."""
        return self._registered(stage, f"has_{trait}", lambda code: any_of(code, trait))

    def runs(self, stage, *functions):
        """A beat is in ``stage``, and its function is one of ``functions``."""
        name = "_or_".join(function.name.lower() for function in functions)
        return self._registered(stage, f"runs_{name}", lambda code: code.matches(*(f.value for f in functions)), True)

    def runs_with(self, stage, trait):
        """A beat is in ``stage``, and its function has the trait of :class:`~celosia.hdl.functions.Traits`."""
        return self._registered(stage, f"runs_with_{trait}", lambda code: any_of(code, trait), True)

    def _registered(self, stage, name, decode, valid=False):
        """What ``decode`` makes of the function in ``stage``, if a beat must be there; a register, decoded in the stage
        before, since it enables many others."""
        if stage == 0:
            return decode(self._function[0]) & (self.valid[0] if valid else 1)
        if (stage, name) not in self._decoded:
            signal = self._decoded[stage, name] = Signal(name=f"{name}_{stage}", reset_less=True)
            there = self.valid[stage - 1] if valid else 1
            self._decoder.d.sync += signal.eq(decode(self._function[stage - 1]) & there)
        return self._decoded[stage, name]
