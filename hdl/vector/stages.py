"""The stages of the vector pipeline: which there are, and what travels through them beside the data."""

from collections.abc import Callable

from amaranth import Cat, Module, Signal, Value

from ..config import AcceleratorConfig
from ..functions import any_of
from ..memory.accumulators import ACCUMULATOR_READ_LATENCY
from ..memory.interfaces import READ_LATENCY
from .curves import CURVE_LATENCY
from .row_statistics import WALK_LATENCY, tree_latency
from .row_unit import NORMALISE_SPACING, ROW_UNIT_LATENCY
from .scale import FIRST_SCALE_LATENCY, SECOND_SCALE_LATENCY

__all__ = [
    "HELD", "OPERANDS", "RESCALED", "RESULT", "SCALED", "SECOND", "Stages", "entry_stage", "normalised_stage",
    "totals_stage"]

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
    """The stage in which the entry of a maximum, or of a sum of numerators, is written to the row table: a read a cycle
    later finds it."""
    return totals_stage(config) + 2 + ROW_UNIT_LATENCY


def normalised_stage(config: AcceleratorConfig, rows: int) -> int:
    """That in which the last entry of LayerNorm is written, for a RESIDUAL of ``rows`` rows and its last beat."""
    return totals_stage(config) + 3 + NORMALISE_SPACING * (rows - 1) + WALK_LATENCY


class Stages:
    """What every stage knows of the beat in it: a bit for each stage, of which stage 0 is the issue.

    Beside the beat travels the code of its function, of which each stage decodes what is asked of it: a stage earlier,
    since a register must enable many others.

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

        stages = self.totals + 2
        self._known: dict[tuple[str, int, bool], Value] = {}
        self.valid = self._travel(issuer.issue, stages, "valid")
        self.new_group = self._travel(issuer.issue & issuer.first_of_group, RESULT, "new_group")
        self.last = self._travel(issuer.issue & issuer.last, stages, "last")
        self.fetches = self._travel(issuer.fetch, SECOND, "fetches")
        self.wide = self._travel(issuer.wide, RESULT, "wide", reset_less=True)
        self.upper = self._travel(issuer.upper, stages, "upper", reset_less=True)
        self.wide_operand = self._travel(issuer.wide_operand, SECOND, "wide_operand", reset_less=True)
        self.first_group = self._travel(issuer.in_first_group, self.totals - 1, "first_group", reset_less=True)
        self.last_group = self._travel(issuer.in_last_group, stages, "last_group", reset_less=True)
        self._codes = [issuer.function[:_CODE_BITS]]
        for stage in range(1, stages + 1):
            code = Signal(_CODE_BITS, name=f"function_{stage}", reset_less=True)
            self._m.d.sync += code.eq(self._codes[-1])
            self._codes.append(code)

    def is_(self, stage, *functions):
        """The function of the beat in ``stage`` is one of ``functions``."""
        return self._among(functions, stage)

    def has(self, stage, trait):
        """The function of the beat in ``stage`` has the trait of :class:`~celosia.hdl.functions.Traits`. A row's
        statistics are made of the beats with the lower bytes of its results alone."""
        return self._with(trait, stage)

    def runs(self, stage, *functions):
        """A beat is in ``stage``, and its function is one of ``functions``."""
        return self._among(functions, stage, runs=True)

    def runs_with(self, stage, trait):
        """A beat is in ``stage``, and its function has the trait of :class:`~celosia.hdl.functions.Traits`."""
        return self._with(trait, stage, runs=True)

    def _among(self, functions, stage, runs=False):
        name = "is_" + "_or_".join(function.name.lower() for function in functions)
        codes = [function.value for function in functions]
        return self._decoded(name, lambda at: self._codes[at].matches(*codes), stage, runs)

    def _with(self, trait, stage, runs=False):
        def decode(at: int) -> Value:
            has = any_of(self._codes[at], trait)
            return has & ~self.upper[at] if trait == "statistics" else has
        return self._decoded(f"has_{trait}", decode, stage, runs)

    def _decoded(self, name: str, decode: Callable[[int], Value], stage: int, runs: bool) -> Value:
        """What ``decode`` makes of the beat in ``stage``; with ``runs``, low where there is none."""
        key = name, stage, runs
        if key not in self._known:
            def known(at: int) -> Value:
                return decode(at) & self.valid[at] if runs else decode(at)
            if stage:
                self._known[key] = Signal(name=f"{name}_{'runs_' if runs else ''}{stage}", reset_less=True)
                self._m.d.sync += self._known[key].eq(known(stage - 1))
            else:
                self._known[key] = known(0)
        return self._known[key]

    def _travel(self, value, stages, name, reset_less=False):
        issued, register = Signal(name=f"{name}_0"), Signal(stages, name=name, reset_less=reset_less)
        self._m.d.comb += issued.eq(value)
        self._m.d.sync += register.eq(Cat(issued, register))
        return Cat(issued, register)
