"""The one place that decides whether a burst may be put on the bus."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..registers import WIDE_BITS
from .bursts import BurstLayout

__all__ = [
    "JUDGE_LATENCY",
    "BoundsLayout",
    "VerdictLayout",
    "WindowGuard",
    "WindowSignature",
    "bounds_of",
    "page_beats",
]

#: Cycles from when a burst is accepted to its verdict.
JUDGE_LATENCY = 2


class WindowSignature(wiring.Signature):
    """The bytes of DRAM that may be touched (``Out`` at the registers): ``base`` <= address < ``limit``."""

    def __init__(self) -> None:
        super().__init__({"base": Out(WIDE_BITS), "limit": Out(WIDE_BITS)})


class BoundsLayout(data.StructLayout):
    """A window as it is kept while a program runs: ``base`` in half beats, an odd one where it is no multiple of a
    beat; ``limit`` in whole beats. One more bit of each reaches beyond all addresses."""

    def __init__(self, config: AcceleratorConfig):
        beat_bits = config.address_bits - exact_log2(config.bus_bytes)
        super().__init__({"base": beat_bits + 2, "limit": beat_bits + 1})


def bounds_of(config: AcceleratorConfig, window):
    """The bounds, as a value of :class:`BoundsLayout`, of a ``window``, a :class:`WindowSignature`: as many whole beats
    as lie in it."""
    shift = exact_log2(config.bus_bytes)
    top = config.address_bits
    base = Cat(window.base[:shift].any(), window.base[shift:top], window.base[top:].any())
    limit = Mux(window.limit[top:].any(), 1 << (top - shift), window.limit[shift:top])
    return Cat(base, limit[:top - shift + 1])


def page_beats(config: AcceleratorConfig) -> int:
    """Beats in 4 KiB, which no burst may cross (AMBA AXI, A3.4.1)."""
    return 4096 // config.bus_bytes


class VerdictLayout(data.StructLayout):
    """A ``burst``, whose it is (``tag``), and whether it may be put on the bus (``inside``)."""

    def __init__(self, config: AcceleratorConfig, tag: int = 1):
        super().__init__({"burst": BurstLayout(config), "tag": tag, "inside": 1})


class WindowGuard(wiring.Component):
    """Judges each burst by the window.

    Rules
    -----
    1. A burst is ``inside`` when its first and its last byte are, it does not cross a multiple of 4 KiB, and it is not
       ``beyond`` all addresses; no other is.
    2. Bursts are judged in their order, each once, ``JUDGE_LATENCY`` cycles after they were accepted.
    3. The next burst is accepted in the cycle after a verdict was taken, so that neither handshake depends on the other
       in the same cycle: a burst in three cycles at best.

    Members
    -------
    bounds : BoundsLayout
        Must not change from when a burst is accepted to its verdict.
    bursts : stream of :class:`BurstLayout`
        ``tag`` comes with it, and goes with its verdict.
    verdicts : stream of :class:`VerdictLayout`

    Attributes
    ----------
    waiting, burst, end : Signal
        Whether there is a burst, the burst, and where in its page it ends, in beats; for proofs.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.waiting = Signal(name="waiting")
        self.burst = Signal(BurstLayout(config), name="burst", reset_less=True)
        self.end = Signal(max(exact_log2(page_beats(config)), 8) + 1, name="end_in_page", reset_less=True)
        super().__init__({
            "bounds": In(BoundsLayout(config)),
            "bursts": In(stream.Signature(BurstLayout(config))),
            "tag": In(1),
            "verdicts": Out(stream.Signature(VerdictLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        shift, page_bits = exact_log2(config.bus_bytes), exact_log2(page_beats(config))
        valid, burst, end = self.waiting, self.burst, self.end
        tag = Signal(reset_less=True)

        # First the burst, and where in its page it ends.
        beat = self.bursts.p.address[shift:]
        m.d.comb += self.bursts.ready.eq(~valid)
        with m.If(~valid):  # a copy that is not needed does no harm
            m.d.sync += [
                valid.eq(self.bursts.valid), tag.eq(self.tag), burst.eq(self.bursts.p),
                end.eq(beat[:page_bits] + self.bursts.p.length),
            ]

        # Then the comparisons.
        first = burst.address[shift:]
        last = Cat(end[:page_bits], first[page_bits:])
        above, below, whole = (Signal(name=name, reset_less=True) for name in ("above_base", "below_limit", "whole"))
        m.d.sync += [
            above.eq(Cat(0, first) >= self.bounds.base),
            below.eq(last < self.bounds.limit),
            whole.eq(~end[page_bits:].any() & ~burst.beyond),
        ]
        with m.If(self.verdicts.valid & self.verdicts.ready):
            m.d.sync += [valid.eq(0), self.verdicts.valid.eq(0)]
        with m.Else():
            m.d.sync += self.verdicts.valid.eq(valid)
        m.d.comb += [
            self.verdicts.p.burst.eq(burst),
            self.verdicts.p.tag.eq(tag),
            self.verdicts.p.inside.eq(above & below & whole),
        ]
        return m
