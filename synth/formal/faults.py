"""Faults that are planted in the hardware, to show that the proofs can fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from . import properties
from .properties import PROOFS, Proof

__all__ = ["FAULTS", "Fault", "planted"]


@dataclass(frozen=True)
class Fault:
    """``what`` is wrong: in ``module``, ``new`` stands in place of ``old``; ``proof`` must find it."""

    proof: str
    what: str
    module: str
    old: str
    new: str


_BUS = "celosia.hdl.bus"
FAULTS = (
    Fault("guard", "a beat beyond the window", f"{_BUS}.guard",
          "last < self.bounds.limit", "last <= self.bounds.limit"),
    Fault("guard", "a window that begins amid a beat", f"{_BUS}.guard", "Cat(window.base[:shift].any(),", "Cat(0,"),
    Fault("guard", "a window that ends amid a beat", f"{_BUS}.guard",
          "window.limit[shift:top])", "window.limit[shift:top] + window.limit[:shift].any())"),
    Fault("guard", "pages of 8 KiB", f"{_BUS}.guard", "return 4096 //", "return 8192 //"),
    Fault("guard", "no end of the addresses", f"{_BUS}.guard", " & ~burst.beyond", ""),
    Fault("guard", "a verdict that does not wait", f"{_BUS}.guard",
          "m.If(self.verdicts.valid & self.verdicts.ready)", "m.If(self.verdicts.valid)"),
    Fault("reads", "what was refused is issued", f"{_BUS}.read_channel",
          "addresses.input.valid.eq(judged & verdict.inside)", "addresses.input.valid.eq(judged)"),
    Fault("reads", "a flush withdraws an address", f"{_BUS}.read_channel",
          "m.submodules.addresses = addresses = Slot(AddressLayout(config))",
          "addresses = Slot(AddressLayout(config))\n"
          "        m.submodules.addresses = ResetInserter(self.flush)(addresses)"),
    Fault("writes", "what was refused is issued", f"{_BUS}.write_channel",
          "addresses.input.valid.eq(accept)", "addresses.input.valid.eq(judged)"),
    Fault("writes", "a beat behind the bus's keeps its strobes", f"{_BUS}.write_channel",
          "Mux(revoked, 0, self.beats.p.filled)", "self.beats.p.filled"),
    Fault("writes", "a flush changes the beat on the bus", f"{_BUS}.write_channel",
          "for bit in found.beat.filled)", "for bit in Mux(dropping, 0, found.beat.filled))"),
    Fault("owed reads", "one burst more than is allowed", f"{_BUS}.read_channel",
          "Queue(owner, config.outstanding_reads)", "Queue(owner, config.outstanding_reads + 1)"),
    Fault("owed reads", "a flush forgets what is owed", f"{_BUS}.read_channel",
          "m.submodules.owners = owners = Queue(owner, config.outstanding_reads)",
          "owners = Queue(owner, config.outstanding_reads)\n"
          "        m.submodules.owners = ResetInserter(self.flush)(owners)"),
    Fault("owed writes", "a flush ends a burst early", f"{_BUS}.write_channel",
          "new.last.eq(last_beat)", "new.last.eq(last_beat | dropping)"),
    Fault("owed writes", "quiet as soon as the beats are sent", f"{_BUS}.write_channel",
          "self.quiet.eq(lasts.empty)", "self.quiet.eq(~sending)"),
    Fault("arbiter", "data behind a last beat goes through", f"{_BUS}.axi_arbiter", "mine &= ~sent", "pass"),
)


@contextmanager
def planted(fault: Fault) -> Iterator[type[Proof]]:
    """The proof of ``fault``, with the fault in what it proves.

    Raises
    ------
    ValueError
        When the code does not stand in the module, once.
    """
    module = import_module(fault.module)
    assert module.__file__ is not None
    source = Path(module.__file__).read_text()
    if source.count(fault.old) != 1:
        raise ValueError(f"{fault.module} must have {fault.old!r} once, not {source.count(fault.old)} times")
    broken = ModuleType(fault.module)
    broken.__package__ = module.__package__
    exec(compile(source.replace(fault.old, fault.new), module.__file__, "exec"), broken.__dict__)
    replaced = {name: getattr(broken, name) for name in broken.__all__ if hasattr(properties, name)}
    with patch.multiple(properties, **replaced):
        yield PROOFS[fault.proof]
