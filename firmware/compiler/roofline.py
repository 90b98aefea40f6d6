"""What no design of this size can beat: the work of a batch, and the cycles that it takes at least."""

from ..machine.geometry import ceil_div
from .program import Program

__all__ = ["bound", "macs"]


def macs(program: Program) -> int:
    """Multiply-accumulates of the batch, of the true sizes: padding is none."""
    g, tokens = program.geometry, sum(program.lengths)
    return g.layers * (
        tokens * (4 * g.hidden * g.hidden + 2 * g.hidden * g.ffn)
        + 2 * g.hidden * sum(length * length for length in program.lengths)
    )


def bound(program: Program) -> int:
    """Cycles that no design of this size can beat for the batch: products of the true sizes on every PE, or
    weights, parameters, inputs and outputs over the bus, each once."""
    g, config = program.geometry, program.geometry.config
    parameters = 8 * (10 * g.hidden + 2 * g.ffn) + 4 * g.hidden
    weights = 4 * g.hidden * g.hidden + 2 * g.hidden * g.ffn
    moved = g.layers * (weights + parameters) + 2 * sum(program.lengths) * g.hidden
    return max(ceil_div(macs(program), config.macs_per_cycle), ceil_div(moved, config.bus_bytes))
