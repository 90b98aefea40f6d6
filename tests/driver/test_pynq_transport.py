"""The PYNQ transport with a stand-in for PYNQ: a functional machine behind `MMIO`, and a buffer with a cache."""

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from celosia.firmware.driver.connections import transport_from_text
from celosia.firmware.driver.driver import Accelerator, DriverError
from celosia.firmware.driver.pynq_transport import PynqTransport
from celosia.firmware.driver.transport import FunctionalTransport, TransportError, wait_for_end
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import register
from celosia.sim.golden.encoder import run_encoder

CONFIG = AcceleratorConfig()
BASE, REGISTERS = 0x1680_0000, 0x4000_0000


class Buffer:
    """The part of a `PynqBuffer` that is needed: the processor sees ``seen``, the logic ``memory``, and only
    `flush` and `invalidate` carry something from one to the other."""

    def __init__(self, seen, memory, address):
        self.seen, self.memory, self.device_address = seen, memory, address
        self.freed = False

    def __getitem__(self, part):
        return Buffer(self.seen[part], self.memory[part], self.device_address + (part.start or 0))

    def __setitem__(self, part, data):
        self.seen[part] = data

    def __array__(self, dtype=None, copy=None):
        return np.array(self.seen, dtype)

    def flush(self):
        self.memory[:] = self.seen

    def invalidate(self):
        self.seen[:] = self.memory

    def freebuffer(self):
        self.freed = True


class StandIn(ModuleType):
    """`pynq`, on a board with an accelerator."""

    def __init__(self, **ips):
        super().__init__("pynq")
        self.ip_dict = ips or {"celosia_0": {"phys_addr": REGISTERS, "addr_range": 4096}}
        self.mapped = []
        self.machine = None

    def Overlay(self, path):
        if path != "good.bit":
            raise OSError(f"{path} does not exist")
        return SimpleNamespace(ip_dict=self.ip_dict)

    def MMIO(self, address, length):
        self.mapped.append((address, length))
        pynq = self

        class Registers:
            def read(self, offset):
                return np.uint32(pynq.machine.read_register(offset))

            def write(self, offset, value):
                assert type(value) is int
                pynq.machine.write_register(offset, value)

        return Registers()

    def allocate(self, shape, dtype):
        if shape[0] > 1 << 27:
            raise MemoryError("too much")
        assert dtype is np.uint8
        self.machine = FunctionalTransport(CONFIG, shape[0], BASE)
        self.machine.memory[:] = 0xEE
        self.buffer = Buffer(np.full(shape, 0x55, np.uint8), self.machine.memory, BASE)
        return self.buffer


@pytest.fixture
def pynq(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "pynq", stand_in)
    return stand_in


def test_an_encoder_equals_golden(pynq):
    transport = PynqTransport("good.bit", 1 << 20)
    assert pynq.mapped == [(REGISTERS, 4096)]
    accelerator = Accelerator(transport, CONFIG)
    encoder, x = random_encoder(48, 96, 3), random_tokens(np.random.default_rng(0), 9, 48)
    accelerator.load(encoder)
    for _ in range(2):
        result = accelerator.run([x])
        np.testing.assert_array_equal(result.outputs[0], run_encoder(encoder, x)[-1]["output"], strict=True)
        x = x[::-1].copy()
    assert result.layers == []
    transport.close()
    assert pynq.buffer.freed


def test_a_buffer_beyond_the_addresses_of_the_bus_is_refused(pynq, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "BASE", 0x8_0000_0000)  # where boards with more than 4 GiB have some
    transport = PynqTransport("good.bit", 1 << 20)
    rule = ("every address of the memory must be below 2 ** address_bits = 0x100000000, with address_bits = 32; "
            "it lies from 0x800000000 to 0x8000fffff")
    with pytest.raises(DriverError, match=f"^{re.escape(rule)}$"):
        Accelerator(transport, CONFIG)
    assert (pynq.machine.memory == 0xEE).all()


def test_it_is_known_by_its_name(pynq):
    transport = transport_from_text("pynq:good.bit")
    assert (transport.base_address, transport.memory_bytes) == (BASE, 1 << 26)


@pytest.mark.parametrize(("overlay", "options", "sentence"), [
    ("bad.bit", {}, "the overlay 'bad.bit' can't be loaded: bad.bit does not exist"),
    ("good.bit", {"name": "dma"}, "the name must be that of an IP of 'good.bit': one of celosia_0; not 'dma'"),
    ("good.bit", {"memory_bytes": 1 << 30}, "PYNQ can't allocate 1073741824 bytes: too much"),
])
def test_refusals(pynq, overlay, options, sentence):
    with pytest.raises(TransportError) as error:
        PynqTransport(overlay, **options)
    assert str(error.value) == sentence


def test_one_of_several_has_to_be_named(monkeypatch):
    entry = {"phys_addr": REGISTERS, "addr_range": 4096}
    monkeypatch.setitem(sys.modules, "pynq", StandIn(dma={}, celosia_0=entry))
    with pytest.raises(TransportError, match=r"^the name must be that of an IP of 'good.bit': one of dma, celosia_0; "):
        PynqTransport("good.bit")
    assert PynqTransport("good.bit", 4096, name="celosia_0").memory_bytes == 4096


class Slow:
    """Registers of an accelerator that is busy for some looks, and then ``ends`` or does not."""

    def __init__(self, busy: int, ends: int):
        self.looks, self.busy, self.ends = 0, busy, ends

    def read_register(self, offset):
        if offset == register("status").offset:
            self.looks += 1
            return self.ends if self.looks > self.busy else 1
        return 100 * self.looks if offset == register("cycles_low").offset else 0


@pytest.mark.parametrize(("busy", "ends", "max_cycles", "ended", "looks"), [
    (5, 0b010, 10_000, True, 6),  # done
    (5, 0b100, 10_000, True, 6),  # an error
    (0, 0b000, 10_000, False, 3),  # never started
    (9999, 0b010, 1000, False, 10),  # too slow
])
def test_waiting_by_looking(busy, ends, max_cycles, ended, looks):
    hardware, told = Slow(busy, ends), []
    assert wait_for_end(hardware, max_cycles, told.append, pause=0) is ended
    assert hardware.looks == looks
    assert told == [100 * look for look in range(1, looks)]
