"""The other end of a serial port, for tests: a pseudo-terminal that leads to the pins of the Verilated system."""

import contextlib
import itertools
import os
import random
import threading
import tty
from collections import deque
from collections.abc import Collection

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from celosia.hdl.board.system import System
from celosia.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import CONTROL_ADDRESS_BITS
from celosia.sim.model import Simulation

__all__ = ["PinsToTerminal", "SimulatedSystem", "open_terminal"]


def open_terminal() -> tuple[int, int, str]:
    """Both ends of a pseudo-terminal, and the name of the far one. It has no echo even before anybody opens it."""
    near, far = os.openpty()
    tty.setraw(far)
    os.set_blocking(near, False)
    return near, far, os.ttyname(far)


class SimulatedSystem(wiring.Component):
    """The system, with the idle ports beside its own that a simulation looks for."""

    def __init__(self, config: AcceleratorConfig, **options: int):
        self._system = System(config, **options)
        super().__init__({
            "s_axi_ctrl": In(AXI4LiteSignature(CONTROL_ADDRESS_BITS)), "m_axi_mem": Out(AXI4Signature.of(config)),
            "interrupt": Out(1), "rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = self._system
        m.d.comb += [self._system.rx.eq(self.rx), self.tx.eq(self._system.tx)]
        return m


class PinsToTerminal(threading.Thread):
    """Simulates the line, bit by bit, until :meth:`stop`.

    Parameters
    ----------
    simulation
        Of a :class:`SimulatedSystem`.
    divisor
        Cycles of a bit.
    damaged
        Numbers of bytes, in each direction, that arrive with a wrong bit.
    """

    def __init__(self, simulation: Simulation, divisor: int, damaged: Collection[int] = ()):
        super().__init__(daemon=True)
        self._simulation, self._divisor, self._damaged = simulation, divisor, damaged
        self._near, self._far, self.name_of_port = open_terminal()
        self._over = threading.Event()
        self.error: BaseException | None = None
        self.up, self.down = itertools.count(), itertools.count()
        simulation.io.rx = 1
        simulation.reset()

    def stop(self) -> None:
        """End the simulation; raises what went wrong in it."""
        self._over.set()
        self.join()
        os.close(self._near)
        os.close(self._far)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error

    def _pass(self, byte: int, number: int) -> int:
        return byte ^ 1 << random.randrange(8) if number in self._damaged else byte

    def _run(self) -> None:
        divisor, io, tick = self._divisor, self._simulation.io, self._simulation.clock.tick
        rx: deque[int] = deque()  # bits that are still to come
        rx_wait = 0  # cycles to the next of them
        byte, sampled, tx_wait = 0, 0, 0  # of the byte on tx; cycles to its next sample, 0 between bytes
        while not self._over.is_set():
            if not rx:
                with contextlib.suppress(BlockingIOError):
                    for number, value in zip(self.up, os.read(self._near, 4096), strict=False):
                        rx.extend([0, *(self._pass(value, number) >> bit & 1 for bit in range(8)), 1])
            if rx and rx_wait == 0:
                io.rx = rx.popleft()
                rx_wait = divisor
            # To the next bit; a start bit on tx is found a cycle late at most.
            cycles = min(rx_wait or divisor, tx_wait or 2)
            tick(cycles)
            rx_wait = max(0, rx_wait - cycles)
            if tx_wait == 0:
                if io.tx == 0:
                    byte, sampled, tx_wait = 0, 0, divisor + divisor // 2
                continue
            tx_wait -= cycles
            if tx_wait == 0:
                if sampled < 8:
                    byte |= io.tx << sampled
                    sampled, tx_wait = sampled + 1, divisor
                else:
                    assert io.tx == 1, "a byte must end with a stop bit"
                    os.write(self._near, bytes([self._pass(byte, next(self.down))]))
