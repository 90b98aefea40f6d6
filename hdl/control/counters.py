"""The performance counters."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.write_channel import written_words
from ..config import AcceleratorConfig
from ..registers import COUNTERS

__all__ = ["CounterSignature", "Counters", "EventSignature"]


class CounterSignature(wiring.Signature):
    """The values of the counters, each ``counter_bits`` wide and under its name in ``COUNTERS`` (``Out`` at the
    counters)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({name: Out(config.counter_bits) for name, _doc in COUNTERS})


class EventSignature(wiring.Signature):
    """A bit for each counter: count in this cycle; of ``write_bytes``, the number of words (``Out`` where the events
    happen)."""

    def __init__(self, config: AcceleratorConfig) -> None:
        widths = {"write_bytes": range(written_words(config) + 1)}
        super().__init__({name: Out(widths.get(name, 1)) for name, _doc in COUNTERS})


class Counters(wiring.Component):
    """Counts events; ``read_bytes`` in steps of a beat, ``write_bytes`` in steps of a scratchpad word, or a beat where
    that is shorter. A counter whose highest bit is set has stopped: it never wraps.

    Members
    -------
    clear : 1 bit
    events : EventSignature
        Counted two cycles later.
    values : CounterSignature
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "clear": In(1), "events": In(EventSignature(config)), "values": Out(CounterSignature(config))})

    def elaborate(self, platform):
        m = Module()
        clear = Signal(init=1)  # which resets the counters too
        m.d.sync += clear.eq(self.clear)
        config = self._config
        steps = {"read_bytes": config.bus_bytes, "write_bytes": min(config.word_bytes, config.bus_bytes)}
        for name, _doc in COUNTERS:
            shift = exact_log2(steps.get(name, 1))
            happens = getattr(self.events, name)
            event = Signal.like(happens, name=f"{name}_event")
            count = Signal(config.counter_bits - shift, name=name, reset_less=True)
            m.d.sync += event.eq(Mux(count[-1], 0, happens))
            m.d.comb += getattr(self.values, name).eq(Cat(Const(0, shift), count))
            with m.If(clear):
                m.d.sync += count.eq(0)
            with m.Elif(event.any()):
                m.d.sync += count.eq(count + event)
        return m
