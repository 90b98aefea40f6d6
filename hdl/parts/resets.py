"""Parts that have a reset of their own, and registers that have none."""

from typing import Any

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, Signal, Value

__all__ = ["reset_after", "reset_by", "without_reset"]


def reset_by(m: Module, name: str, reset: Any) -> DomainRenamer:
    """What makes a component run on the clock of ``sync`` and be reset by ``reset`` alone, inside module ``m``: its
    domain is called ``name``.

    ``reset`` must be a register, which is high while ``sync`` is reset: a reset that is worked out on the way to
    thousands of registers would be the slowest path.
    """
    domain = ClockDomain(name, local=True)
    m.domains += domain
    m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(reset)]
    return DomainRenamer(name)


def reset_after(m: Module, name: str) -> DomainRenamer:
    """What makes a component be reset a cycle after ``sync`` is: it lies too far away for the same cycle."""
    reset = Signal(init=1, name=f"{name}_reset")
    m.d.sync += reset.eq(0)
    return reset_by(m, name, reset)


def without_reset(m: Module, member: Any) -> Any:
    """A register behind the output ``member``, of the same shape, that no reset reaches: for data that nobody looks at
    until something else, which is reset, says that it is there. Not to be called amid an ``m.If``."""
    register = Signal(member.shape(), name=f"{Value.cast(member).name}_register", reset_less=True)
    m.d.comb += member.eq(register)
    return register
