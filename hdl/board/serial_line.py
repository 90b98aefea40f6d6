"""An asynchronous serial line: 8 data bits, least significant first, no parity, one stop bit."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["DEFAULT_BAUD", "MIN_DIVISOR", "LineSignature", "SerialReceiver", "SerialTransmitter"]

#: Bits a second, where nothing else is said: every clock of whole MHz and an FT231X divide down to it exactly.
DEFAULT_BAUD = 1_000_000
#: Fewest cycles of a bit: a start bit is found up to one cycle late, and a bit is sampled near its middle.
MIN_DIVISOR = 4


class LineSignature(wiring.Signature):
    """What comes from a serial line (the receiver's side is ``Out``).

    Rules
    -----
    1. ``valid`` is high for one cycle with each byte ``data``; the line can't be held up.
    2. ``broken`` is high for one cycle when a byte had no stop bit: noise, another baud rate, or a break. After it
       nothing is received before the line was high again.
    """

    def __init__(self) -> None:
        super().__init__({"data": Out(8), "valid": Out(1), "broken": Out(1)})


def _check_divisor(divisor: int) -> None:
    if divisor < MIN_DIVISOR:
        raise ValueError(f"divisor must be at least {MIN_DIVISOR} cycles a bit, not {divisor}")


class SerialReceiver(wiring.Component):
    """Receives bytes. A low pulse shorter than half a bit is no start bit.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, at least :data:`MIN_DIVISOR`.

    Members
    -------
    rx : in
        The line, high when idle; of any clock.
    line : LineSignature, out
    """

    def __init__(self, divisor: int):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "line": Out(LineSignature())})

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, rx, init=1)
        wait = Signal(range(self._divisor))
        bits = Signal(range(8))
        m.d.sync += [wait.eq(wait - 1), self.line.valid.eq(0), self.line.broken.eq(0)]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += wait.eq(self._divisor // 2 - 1)
                with m.If(~rx):
                    m.next = "start"
            with m.State("start"):
                with m.If(rx):
                    m.next = "idle"
                with m.Elif(wait == 0):
                    m.d.sync += [wait.eq(self._divisor - 1), bits.eq(7)]
                    m.next = "data"
            with m.State("data"), m.If(wait == 0):
                m.d.sync += [
                    wait.eq(self._divisor - 1), bits.eq(bits - 1),
                    self.line.data.eq(Cat(self.line.data[1:], rx))]
                with m.If(bits == 0):
                    m.next = "stop"
            with m.State("stop"), m.If(wait == 0):
                m.d.sync += [self.line.valid.eq(rx), self.line.broken.eq(~rx)]
                m.next = "idle"
                with m.If(~rx):
                    m.next = "broken"
            with m.State("broken"), m.If(rx):
                m.next = "idle"
        return m


class SerialTransmitter(wiring.Component):
    """Sends bytes, one after the other without a gap while there are some.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, at least :data:`MIN_DIVISOR`.

    Members
    -------
    bytes : stream of 8 bits, in
    tx : out
        The line, high when idle.
    """

    def __init__(self, divisor: int):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        frame = Signal(10, init=0x3FF)  # stop bit, data, start bit; ones follow
        left = Signal(range(11))
        wait = Signal(range(self._divisor))
        m.d.comb += [self.tx.eq(frame[0]), self.bytes.ready.eq((left == 0) | ((left == 1) & (wait == 0)))]
        with m.If(self.bytes.valid & self.bytes.ready):
            m.d.sync += [frame.eq(Cat(Const(0, 1), self.bytes.payload, Const(1, 1))), left.eq(10),
                         wait.eq(self._divisor - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [frame.eq(Cat(frame[1:], Const(1, 1))), left.eq(left - 1), wait.eq(self._divisor - 1)]
        return m
