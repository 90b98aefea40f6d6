"""Advice where a program takes far longer than it had to: which parameter of the configuration to raise."""

from dataclasses import replace

from ...hdl.config import AcceleratorConfig, ConfigError
from ..machine.estimate import estimate
from ..machine.geometry import CompileError
from ..machine.layout import build_image
from ..quantise.synthetic import random_encoder
from .compiler import compile_program
from .program import Program
from .roofline import bound

__all__ = ["FAR", "advice"]

#: Cycles over their bound from which on there is advice.
FAR = 5
#: What may be doubled, the cheaper parameter first where two help alike.
_PARAMETERS = (
    "queue_depth", "load_queue_depth", "outstanding_reads", "row_entries", "bus_bits", "lanes", "scratchpad_kib",
    "accumulator_kib")
#: A parameter helps when it takes at least this share of the cycles away.
_HELPS = 0.05


def _doubled(config: AcceleratorConfig, name: str) -> AcceleratorConfig | None:
    try:
        return replace(config, **{name: 2 * getattr(config, name)})
    except ConfigError:
        return None


def advice(program: Program, cycles: int | None = None) -> str | None:
    """A sentence, where ``program`` takes more than :data:`FAR` times its bound and a parameter helps; None otherwise.

    It names the parameter that brings the cycles down furthest when it is doubled, as the cycle model predicts them for
    one layer and the longest sentence. ``cycles`` are those that were measured; predicted unless given.
    """
    geometry, least = program.geometry, bound(program)
    if cycles is None:
        cycles = estimate(geometry.config, program.instructions, program.edges).cycles
    if cycles <= FAR * least:
        return None
    encoder = random_encoder(geometry.hidden, geometry.ffn, geometry.heads)  # their numbers don't matter

    def predicted(config: AcceleratorConfig) -> int | None:
        try:
            other = compile_program(build_image(config, encoder), [max(program.lengths)])
        except CompileError:
            return None
        return estimate(config, other.instructions, other.edges).cycles

    before = predicted(geometry.config)
    found: dict[str, int] = {}
    for name in _PARAMETERS:
        config = _doubled(geometry.config, name)
        after = predicted(config) if config is not None else None
        if after is not None:
            found[name] = after
    start = (f"the program takes {cycles} cycles, {cycles / least:.1f} times the {least} that an array of this size "
             "needs")
    best = min(found, key=lambda name: found[name], default=None)
    if before is None or best is None or found[best] > (1 - _HELPS) * before:
        return None  # a few cycles of a small program are lost at its start and end
    value = getattr(geometry.config, best)
    return (f"{start}; raise {best} from {value} to {2 * value}: the cycle model then predicts "
            f"{found[best] / before:.0%} of the cycles")
