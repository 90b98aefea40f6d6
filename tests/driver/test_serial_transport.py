"""The serial transport against a board in Python that can misbehave: framing, retries, and every error's sentence."""

import os
import re
import select
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from celosia.firmware.driver.connections import transport_from_text
from celosia.firmware.driver.driver import Accelerator, DriverError, HardwareMismatchError
from celosia.firmware.driver.serial_transport import SerialTransport
from celosia.firmware.driver.transport import FunctionalTransport, TransportError
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.board.serial_frames import (
    BRIDGE_INFO,
    CRC_BYTES,
    PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    REPLY,
    REPLY_START,
    REQUEST,
    REQUEST_START,
    Operation,
    Status,
)
from celosia.hdl.config import AcceleratorConfig
from celosia.sim.golden.encoder import run_encoder

from tests.driver.serial_board import open_terminal

CONFIG = AcceleratorConfig(rows=8, cols=8, bus_bits=64, scratchpad_kib=64, accumulator_kib=64)
BASE, SIZE = 0x2000_0000, 32 << 10


class Board(threading.Thread):
    """Answers requests as the bridge does, for a functional machine. ``faults`` are called one after the other with
    each reply, and return what is sent in its place; when there are none left, all is well."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.near, self.far, self.port = open_terminal()
        self.over = threading.Event()
        self.behind = FunctionalTransport(CONFIG, SIZE, BASE)
        self.version = PROTOCOL_VERSION
        self.faults: list = []
        self.requests: list[tuple[Operation, int]] = []  # operation and tag of each
        self.carried_out: list[Operation] = []
        self.status = Status.OKAY  # of what is not HELLO

    def run(self) -> None:
        with suppress(EOFError):
            while True:
                while self._take(1)[0] != REQUEST_START:
                    pass
                head = self._take(REQUEST.size)
                fields = REQUEST.decode(head)
                operation = Operation(fields["operation"])
                data = self._take(fields["length"]) if operation.value & 1 else b""
                assert zlib.crc32(head + data) == int.from_bytes(self._take(CRC_BYTES), "little")
                reply = self._reply(operation, fields["tag"], fields["address"], fields["length"], data)
                os.write(self.near, self.faults.pop(0)(reply) if self.faults else reply)

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if self.over.is_set():
                raise EOFError
            if select.select([self.near], [], [], 0.01)[0]:
                data += os.read(self.near, size - len(data))
        return data

    def _reply(self, operation: Operation, tag: int, address: int, length: int, data: bytes) -> bytes:
        repeated = self.requests[-1:] == [(operation, tag)]
        self.requests.append((operation, tag))
        found = b""
        if operation is Operation.HELLO:
            return frame(Status.OKAY, tag, BRIDGE_INFO.encode(
                version=self.version, payload_bytes=PAYLOAD_BYTES, memory_base=BASE, memory_bytes=SIZE))
        if self.status is not Status.OKAY:
            return frame(self.status, tag, b"")
        if not repeated:
            self.carried_out.append(operation)
        if operation is Operation.READ_REGISTERS:
            found = self.behind.read_register(address).to_bytes(4, "little")
        elif operation is Operation.READ_MEMORY:
            found = self.behind.read_memory(address, length).tobytes()
        elif operation is Operation.WRITE_REGISTERS and not repeated:
            self.behind.write_register(address, int.from_bytes(data, "little"))
        elif operation is Operation.WRITE_MEMORY and not repeated:
            self.behind.write_memory(address, np.frombuffer(data, np.uint8))
        return frame(Status.OKAY, tag, found)


def frame(status: Status | int, tag: int, data: bytes, length: int | None = None) -> bytes:
    number = status if isinstance(status, int) else status.value
    body = REPLY.encode(status=number, tag=tag, length=len(data) if length is None else length) + data
    return bytes([REPLY_START]) + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    board.start()
    yield board
    board.over.set()
    board.join()
    os.close(board.far)
    os.close(board.near)


def connect(board: Board, retries: int = 3) -> SerialTransport:
    # Waited out only where nothing answers; a board on a busy machine answers within a hundredth of it.
    return SerialTransport(board.port, timeout=1.5, quiet=0.2, retries=retries)


def test_an_encoder_equals_golden(board: Board) -> None:
    accelerator = Accelerator(connect(board), CONFIG)
    encoder, x = random_encoder(24, 40, 3), random_tokens(np.random.default_rng(0), 9, 24)
    accelerator.load(encoder)
    told: list[int] = []
    result = accelerator.run([x], on_progress=told.append)
    np.testing.assert_array_equal(result.outputs[0], run_encoder(encoder, x)[-1]["output"], strict=True)
    assert result.layers == []


def test_what_does_not_fit_is_refused_before_anything_is_sent(board: Board) -> None:
    transport = connect(board)
    accelerator = Accelerator(transport, CONFIG)
    with pytest.raises(DriverError, match=f"^the model's [0-9]+ bytes must fit the memory of {SIZE}$"):
        accelerator.load(random_encoder(64, 256, 4))
    for address, size in ((BASE - 1, 1), (BASE + SIZE - 3, 4)):
        rule = f"an address must be from {BASE:#x} to {BASE + SIZE - 1:#x}, not {address:#x} with {size} bytes"
        for call in (lambda a=address, n=size: transport.read_memory(a, n),
                     lambda a=address, n=size: transport.write_memory(a, np.zeros(n, np.uint8))):
            with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
                call()
    assert set(board.carried_out) == {Operation.READ_REGISTERS}


def test_memory_beyond_the_addresses_of_the_bus_is_refused(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    base = (1 << 32) - SIZE + 64
    monkeypatch.setattr(sys.modules[__name__], "BASE", base)
    rule = ("every address of the memory must be below 2 ** address_bits = 0x100000000, with address_bits = 32; "
            f"it lies from {base:#x} to 0x10000003f")
    with pytest.raises(DriverError, match=f"^{re.escape(rule)}$"):
        Accelerator(connect(board), CONFIG)
    assert set(board.carried_out) == {Operation.READ_REGISTERS}


def test_another_accelerator_is_refused(board: Board) -> None:
    with pytest.raises(HardwareMismatchError, match=r"^register config_array must read "):
        Accelerator(connect(board), AcceleratorConfig())


def test_memory_goes_in_frames_of_the_payload(board: Board) -> None:
    transport = connect(board)
    for size in (1, PAYLOAD_BYTES - 1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, 3 * PAYLOAD_BYTES):
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        board.requests.clear()
        transport.write_memory(BASE + 5, data)
        np.testing.assert_array_equal(transport.read_memory(BASE + 5, size), data, strict=True)
        assert len(board.requests) == 2 * -(-size // PAYLOAD_BYTES)
    assert transport.read_memory(BASE, 0).size == 0


FAULTS = {
    "nothing": lambda reply: b"",
    "half": lambda reply: reply[:5],
    "damaged": lambda reply: reply[:-1] + bytes([reply[-1] ^ 1]),
    "another status": lambda reply: reply[:1] + b"\x77" + reply[2:],
    "too long": lambda reply: frame(Status.OKAY, reply[2], bytes(5)),
    "of the request before": lambda reply: frame(Status.OKAY, (reply[2] - 1) % 256, reply[5:-CRC_BYTES]),
    "arrived damaged": lambda reply: frame(Status.CHECKSUM, 0, b""),
    "arrived too long": lambda reply: frame(Status.LENGTH, 0, b""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_answer_is_asked_for_again(board: Board, fault: str) -> None:
    transport = connect(board)
    board.faults = [FAULTS[fault], FAULTS[fault]]
    data = np.arange(4, dtype=np.uint8)
    transport.write_memory(BASE, data)
    assert board.carried_out == [Operation.WRITE_MEMORY]
    assert len(set(board.requests[-3:])) == 1, "a repetition has the tag of the first"
    board.faults = [FAULTS[fault]]
    np.testing.assert_array_equal(transport.read_memory(BASE, 4), data, strict=True)


def test_bytes_before_an_answer_are_skipped(board: Board) -> None:
    transport = connect(board, retries=0)
    board.faults = [lambda reply: b"\x00\xff noise" + reply]
    transport.write_memory(BASE, np.ones(3, np.uint8))
    assert transport.read_memory(BASE, 3).tolist() == [1, 1, 1]


def test_tags_of_requests_that_follow_each_other_differ(board: Board) -> None:
    transport = connect(board)
    for _ in range(300):
        transport.read_register(0)
    tags = [tag for _, tag in board.requests]
    assert all(a != b for a, b in pairwise(tags))


@pytest.mark.parametrize(("fault", "meaning"), [
    ("nothing", "no answer within 1.5 s"),
    ("damaged", "the answer was damaged"),
    ("of the request before", "the answer was to request 1, not to 2"),
    ("arrived damaged", "it arrived with a wrong checksum"),
])
def test_a_line_that_stays_broken_is_an_error(board: Board, fault: str, meaning: str) -> None:
    transport = connect(board, retries=1)
    board.faults = [FAULTS[fault]] * 2
    rule = f"write memory of 3 bytes at {BASE:#x} failed on {board.port!r} at 1000000 baud: {meaning}"
    with pytest.raises(TransportError, match=f"^{re.escape(rule)}$"):
        transport.write_memory(BASE, np.zeros(3, np.uint8))
    assert len(board.requests) == 3


@pytest.mark.parametrize(("status", "meaning"), [
    (Status.BUS_ERROR, "the bus answered with an error"),
    (Status.BUS_TIMEOUT, "the bus did not answer"),
    (Status.OPERATION, "the board does not know the operation"),
])
def test_an_error_of_the_board_is_not_asked_for_again(board: Board, status: Status, meaning: str) -> None:
    transport = connect(board)
    board.status = status
    rule = f"read registers of 4 bytes at 0x10 failed on {board.port!r} at 1000000 baud: {meaning}"
    with pytest.raises(TransportError, match=f"^{re.escape(rule)}$"):
        transport.read_register(0x10)
    assert len(board.requests) == 2


def test_another_version_is_refused(board: Board) -> None:
    board.version = 7
    rule = f"the board on {board.port!r} at 1000000 baud must speak version 1 of the protocol, not 7"
    with pytest.raises(TransportError, match=f"^{re.escape(rule)}$"):
        connect(board)


def test_nobody_there() -> None:
    near, far, port = open_terminal()
    rule = f"hello of 0 bytes at 0x0 failed on {port!r} at 9600 baud: no answer within 0.05 s"
    with pytest.raises(TransportError, match=f"^{re.escape(rule)}$"):
        SerialTransport(port, 9600, timeout=0.05, quiet=0.01, retries=1)
    os.close(near)
    os.close(far)


def test_a_port_that_is_taken_is_refused(board: Board) -> None:
    transport = connect(board)
    with pytest.raises(TransportError, match=f"^the serial port {board.port!r} can't be opened: "):
        connect(board)
    transport.close()
    connect(board).close()


def test_a_port_that_breaks_is_an_error(board: Board) -> None:
    transport = connect(board)
    transport.close()
    with pytest.raises(TransportError, match=f"^the serial port of {board.port!r} at 1000000 baud broke: "):
        transport.read_register(0)


def test_a_transport_by_its_name(board: Board) -> None:
    transport = transport_from_text(f"serial:{board.port}")
    assert (transport.base_address, transport.memory_bytes) == (BASE, SIZE)
    transport.close()  # type: ignore[attr-defined]
    transport_from_text(f"serial:{board.port}@57600").close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("text", "sentence"), [
    ("serial:/dev/nowhere", "the serial port '/dev/nowhere' can't be opened: "),
    ("serial:/dev/nowhere@9600", "the serial port '/dev/nowhere' can't be opened: "),
    ("pynq:mine.bit", "the overlay 'mine.bit' needs PYNQ, which can't be imported: "),
    ("usb:1", "a transport must be serial:PORT[@BAUD] or pynq:OVERLAY.bit, not 'usb:1'"),
    ("serial:", "a transport must be serial:PORT[@BAUD] or pynq:OVERLAY.bit, not 'serial:'"),
    ("serial:@9600", "a transport must be serial:PORT[@BAUD] or pynq:OVERLAY.bit, not 'serial:@9600'"),
    ("", "a transport must be serial:PORT[@BAUD] or pynq:OVERLAY.bit, not ''"),
])
def test_bad_names(text: str, sentence: str) -> None:
    with pytest.raises(TransportError, match=f"^{re.escape(sentence)}"):
        transport_from_text(text)
