"""An accelerator behind a serial port: the host's side of :mod:`~celosia.hdl.board.serial_bridge`."""

import contextlib
import time
import zlib
from collections.abc import Sequence

import numpy as np
import serial

from ...hdl.board.serial_frames import (
    BRIDGE_INFO,
    CRC_BYTES,
    PROTOCOL_VERSION,
    REPLY,
    REPLY_START,
    REQUEST,
    REQUEST_START,
    Operation,
    Status,
)
from ...hdl.board.serial_line import DEFAULT_BAUD
from .transport import Bytes, Progress, TransportError, check_range, wait_for_end

__all__ = ["SerialTransport"]

#: What an answer says of the request as it arrived: sent again, it may arrive whole.
_DAMAGED = (Status.CHECKSUM, Status.LENGTH)
_MEANINGS = {
    Status.CHECKSUM: "it arrived with a wrong checksum",
    Status.LENGTH: "it arrived with a wrong length",
    Status.OPERATION: "the board does not know the operation",
    Status.BUS_ERROR: "the bus answered with an error",
    Status.BUS_TIMEOUT: "the bus did not answer",
}


class SerialTransport:
    """Registers and memory over a serial port.

    A request that is not answered, or whose answer is damaged, is made again: the bridge carries a repeated write
    out only once.

    Parameters
    ----------
    port
        The port's name, such as ``/dev/ttyUSB0`` or ``COM3``.
    baud
        Bits a second, as the board was built for.
    timeout
        Seconds that an answer may take, beside the time on the line.
    quiet
        Seconds without a byte after which the bridge has forgotten a broken frame; it takes 0.02 on a board.
    retries
        How often a request is made again.

    Raises
    ------
    TransportError
        When the port can't be opened, nobody answers, or who answers speaks another version of the protocol; later,
        when the board does not answer any more, or answers with an error.
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD, *, timeout: float = 1.0, quiet: float = 0.05,
                 retries: int = 3):
        self._name = f"{port!r} at {baud} baud"
        self._baud, self._timeout, self._quiet, self._retries = baud, timeout, quiet, retries
        self._tag = 0
        self.base_address = self.memory_bytes = 0
        try:
            self._line = serial.Serial(port, baud, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise TransportError(f"the serial port {port!r} can't be opened: {error}") from error
        with contextlib.suppress(AttributeError, NotImplementedError, OSError, ValueError):
            self._line.set_low_latency_mode(True)  # else a USB adapter holds an answer back for 16 ms
        try:
            self._line.reset_input_buffer()
            info = BRIDGE_INFO.decode(self._ask(Operation.HELLO, 0, BRIDGE_INFO.size))
            if info["version"] != PROTOCOL_VERSION:
                raise TransportError(f"the board on {self._name} must speak version {PROTOCOL_VERSION} of the "
                                     f"protocol, not {info['version']}")
        except BaseException:
            self.close()
            raise
        self._payload = info["payload_bytes"]
        self.base_address, self.memory_bytes = info["memory_base"], info["memory_bytes"]

    def close(self) -> None:
        """Close the port; again is harmless."""
        self._line.close()

    def read_register(self, offset: int) -> int:
        return int.from_bytes(self._ask(Operation.READ_REGISTERS, offset, 4), "little")

    def write_register(self, offset: int, value: int) -> None:
        self._ask(Operation.WRITE_REGISTERS, offset, 0, value.to_bytes(4, "little"))

    def read_memory(self, address: int, size: int) -> Bytes:
        check_range(self, address, size)
        parts = [self._ask(Operation.READ_MEMORY, address + start, min(self._payload, size - start))
                 for start in range(0, size, self._payload)]
        return np.frombuffer(b"".join(parts), np.uint8).copy()

    def write_memory(self, address: int, data: Bytes) -> None:
        check_range(self, address, data.size)
        whole = data.tobytes()
        for start in range(0, len(whole), self._payload):
            self._ask(Operation.WRITE_MEMORY, address + start, 0, whole[start:start + self._payload])

    def wait_interrupt(
        self, max_cycles: int, on_progress: Progress | None = None, marks: Sequence[int] = (),
        on_mark: Progress | None = None,
    ) -> bool:
        return wait_for_end(self, max_cycles, on_progress)

    def _ask(self, operation: Operation, address: int, answer: int, data: bytes = b"") -> bytes:
        """Make a request that writes ``data`` or reads ``answer`` bytes; the bytes that were read."""
        self._tag = (self._tag + 1) % 256
        length = 0 if operation is Operation.HELLO else len(data) or answer
        body = REQUEST.encode(operation=operation.value, tag=self._tag, address=address, length=length) + data
        frame = bytes([REQUEST_START]) + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")
        problem = ""
        for attempt in range(1 + self._retries):
            if attempt:
                self._be_quiet()
            try:
                self._line.write(frame)
                status, found = self._reply(len(frame), answer)
            except (serial.SerialException, OSError) as error:
                raise TransportError(f"the serial port of {self._name} broke: {error}") from error
            except _NoReplyError as error:
                problem = str(error)
                continue
            if status is Status.OKAY:
                return found
            problem = _MEANINGS[status]
            if status not in _DAMAGED:
                break
        what = operation.name.lower().replace("_", " ")
        raise TransportError(f"{what} of {length} bytes at {address:#x} failed on {self._name}: {problem}")

    def _be_quiet(self) -> None:
        """Send nothing until nothing has come for ``quiet`` seconds: both sides then wait for a new frame."""
        self._line.timeout = self._quiet
        end = time.monotonic() + 10 * self._quiet + self._timeout
        while self._line.read(4096) and time.monotonic() < end:
            pass

    def _reply(self, sent: int, answer: int) -> tuple[Status, bytes]:
        """The reply to the last request, which had ``sent`` bytes: its status, and ``answer`` bytes if OKAY."""
        end = time.monotonic() + self._timeout + 10 * (sent + 1 + REPLY.size + answer + CRC_BYTES) / self._baud

        def take(size: int) -> bytes:
            self._line.timeout = max(0.0, end - time.monotonic())
            data = self._line.read(size)
            if len(data) < size:
                raise _NoReplyError(f"no answer within {self._timeout} s")
            return data

        while take(1)[0] != REPLY_START:
            pass
        head = take(REPLY.size)
        fields = REPLY.decode(head)
        if fields["status"] not in [status.value for status in Status]:
            raise _NoReplyError("the answer was damaged")
        status = Status(fields["status"])
        if fields["length"] != (answer if status is Status.OKAY else 0):
            raise _NoReplyError("the answer was damaged")
        data = take(fields["length"])
        if zlib.crc32(head + data) != int.from_bytes(take(CRC_BYTES), "little"):
            raise _NoReplyError("the answer was damaged")
        # Of a request that arrived damaged, the tag may be too.
        if fields["tag"] != self._tag and status not in _DAMAGED:
            raise _NoReplyError(f"the answer was to request {fields['tag']}, not to {self._tag}")
        return status, data


class _NoReplyError(Exception):
    """There was no answer, or none that can be read."""
