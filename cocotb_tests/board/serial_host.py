"""The host's end of a serial line, inside the simulator: frames over a UART model by others."""

import logging
import zlib

from celosia.hdl.board.serial_frames import CRC_BYTES, REPLY, REPLY_START, REQUEST, REQUEST_START, Operation, Status
from cocotb.triggers import Timer
from cocotbext.uart import UartSink, UartSource

__all__ = ["SerialHost", "request"]


def request(operation: Operation | int, address: int = 0, payload: bytes | int = b"", tag: int = 0) -> bytes:
    """A request: ``payload`` are the bytes to write, or how many to read."""
    number = operation if isinstance(operation, int) else operation.value
    data = payload if isinstance(payload, bytes) else b""
    length = len(payload) if isinstance(payload, bytes) else payload
    body = REQUEST.encode(operation=number, tag=tag, address=address, length=length) + data
    return bytes([REQUEST_START]) + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


class SerialHost:
    """Sends requests and takes replies apart.

    Parameters
    ----------
    dut
        With the pins ``rx`` and ``tx``, and a clock of 10 ns.
    bit_ns : int
        A bit's time as the host keeps it.
    idle_ns : int
        Time after which the bridge has forgotten a broken frame.
    """

    def __init__(self, dut, bit_ns: int, idle_ns: int):
        for name in ("rx", "tx"):  # not a line for each byte
            logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)
        self.dut = dut
        self.bit_ns, self.idle_ns = bit_ns, idle_ns
        dut.rx.value = 1
        self.source = UartSource(dut.rx, baud=1e9 / bit_ns)
        self.sink = UartSink(dut.tx, baud=1e9 / bit_ns)
        self.tag = 0

    async def send(self, data: bytes) -> None:
        """Put bytes on the line, and wait until they are there."""
        await self.source.write(data)
        await self.source.wait()

    async def idle(self) -> None:
        """Wait until the bridge has forgotten a frame that was begun."""
        await Timer(self.idle_ns + 4 * self.bit_ns, "ns")

    async def reply(self, tag: int | None = None) -> tuple[Status, bytes]:
        """The status and the bytes of the next reply."""
        head = bytes([await self._byte() for _ in range(1 + REPLY.size)])
        assert head[0] == REPLY_START
        fields = REPLY.decode(head[1:])
        data = bytes([await self._byte() for _ in range(fields["length"])])
        crc = bytes([await self._byte() for _ in range(CRC_BYTES)])
        assert zlib.crc32(head[1:] + data) == int.from_bytes(crc, "little")
        assert tag is None or fields["tag"] == tag
        return Status(fields["status"]), data

    async def _byte(self) -> int:
        return (await self.sink.read(1))[0]

    async def ask(self, operation: Operation | int, address: int = 0, payload: bytes | int = b"",
                  tag: int | None = None) -> tuple[Status, bytes]:
        """Send a request, with a new tag unless one is given; its reply."""
        if tag is None:
            self.tag = (self.tag + 1) % 256
            tag = self.tag
        await self.send(request(operation, address, payload, tag))
        return await self.reply(tag)

    async def silent(self) -> bool:
        """Whether nothing comes for a while."""
        await self.idle()
        return self.sink.empty() and self.sink.idle()
