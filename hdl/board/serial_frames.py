"""Frames on the serial line between a host and the bridge: their formats, and what takes them apart and puts them
together.

A request is ``REQUEST_START``, a :data:`REQUEST`, the bytes to write, and a CRC; its reply is ``REPLY_START``, a
:data:`REPLY`, the bytes that were read, and a CRC. Numbers are little endian. The CRC is the CRC-32 of Ethernet and
zlib, over everything between the start byte and itself.
"""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..enums import Enum
from ..isa import Field, Format
from .serial_line import LineSignature

__all__ = [
    "BRIDGE_INFO",
    "CRC_BYTES",
    "PAYLOAD_BYTES",
    "PROTOCOL_VERSION",
    "REPLY",
    "REPLY_START",
    "REQUEST",
    "REQUEST_START",
    "BufferReadSignature",
    "BufferWriteSignature",
    "FrameReceiver",
    "FrameSender",
    "Operation",
    "Status",
]

PROTOCOL_VERSION = 1
REQUEST_START = 0xC5
REPLY_START = 0x3A
#: Most bytes that a frame reads or writes; half a block RAM of an ECP5 holds them.
PAYLOAD_BYTES = 1024
CRC_BYTES = 4


class Operation(Enum, shape=8):
    """What a request asks for. Bit 0 set: bytes follow the header."""

    HELLO = 0
    READ_REGISTERS = 2
    WRITE_REGISTERS = 3
    READ_MEMORY = 4
    WRITE_MEMORY = 5


class Status(Enum, shape=8):
    """What became of a request."""

    OKAY = 0
    CHECKSUM = 1
    LENGTH = 2
    OPERATION = 3
    BUS_ERROR = 4
    BUS_TIMEOUT = 5


REQUEST = Format(
    "request", "Header of a request.",
    (
        Field("operation", 8, "Operation"),
        Field("tag", 8, "any number but that of the request before; a repetition has the same"),
        Field("address", 32, "byte address of the first byte, of the registers or of the memory"),
        Field("length", 16, "bytes to read or write, from 1 to PAYLOAD_BYTES; 0 for HELLO"),
    ),
    8)

REPLY = Format(
    "reply", "Header of a reply.",
    (
        Field("status", 8, "Status"),
        Field("tag", 8, "that of the request"),
        Field("length", 16, "bytes that follow: those that were read, else 0"),
    ),
    4)

BRIDGE_INFO = Format(
    "bridge_info", "What the reply to HELLO carries.",
    (
        Field("version", 16, "PROTOCOL_VERSION"),
        Field("payload_bytes", 16, "PAYLOAD_BYTES"),
        Field("memory_base", 32, "address of the memory's first byte"),
        Field("memory_bytes", 32, "size of the memory"),
    ),
    12)


def _crc_processor():
    return crc.catalog.CRC32_ETHERNET(data_width=8).create()


class BufferWriteSignature(wiring.Signature):
    """The write port of a buffer of ``PAYLOAD_BYTES`` bytes (the user's side is ``Out``)."""

    def __init__(self) -> None:
        super().__init__({"enable": Out(1), "address": Out(range(PAYLOAD_BYTES)), "data": Out(8)})


class BufferReadSignature(wiring.Signature):
    """The read port of a buffer of ``PAYLOAD_BYTES`` bytes (the user's side is ``Out``); ``data`` is that of the
    ``address`` of the cycle before."""

    def __init__(self) -> None:
        super().__init__({"address": Out(range(PAYLOAD_BYTES)), "data": In(8)})


class FrameReceiver(wiring.Component):
    """Finds requests among the bytes of a line, and judges them.

    Rules
    -----
    1. What comes before a start byte is ignored. A frame that was begun and not continued for ``idle_cycles``
       is forgotten.
    2. ``request`` is valid from the end of a frame until it is taken, with the header and a verdict: OKAY,
       CHECKSUM, or LENGTH (of bytes to write, when they are not from 1 to ``PAYLOAD_BYTES``; what follows the header
       is not read). The bytes to write are then in the buffer, from address 0. Until it is taken, what comes is
       dropped.
    3. After a frame with another verdict than OKAY, and after a byte without a stop bit, nobody knows where a frame
       starts: all is ignored until nothing has come for ``idle_cycles``.

    Parameters
    ----------
    idle_cycles : int
        Longer than any pause that a host makes inside a frame.

    Members
    -------
    line : LineSignature, in
    buffer : BufferWriteSignature, out
    request : stream of the fields of ``REQUEST``, and ``verdict``
    """

    def __init__(self, idle_cycles: int):
        if idle_cycles < 1:
            raise ValueError(f"idle_cycles must be at least 1, not {idle_cycles}")
        self._idle_cycles = idle_cycles
        super().__init__({
            "line": In(LineSignature()),
            "buffer": Out(BufferWriteSignature()),
            "request": Out(stream.Signature(data.StructLayout({**REQUEST.layout.members, "verdict": Status}))),
        })

    def elaborate(self, platform):
        m = Module()
        line, request = self.line, self.request
        m.submodules.crc = checker = _crc_processor()
        header = Signal(REQUEST.layout, reset_less=True)
        taking = header.as_value()
        count = Signal(range(PAYLOAD_BYTES), reset_less=True)
        left = Signal(range(self._idle_cycles + 1))
        idle = Signal()
        m.d.comb += [
            idle.eq(left == 0),
            checker.data.eq(line.data),
            self.buffer.address.eq(count),
            self.buffer.data.eq(line.data),
            *(request.p[name].eq(header[name]) for name in REQUEST.layout.members),
        ]
        with m.If(line.valid | line.broken):
            m.d.sync += left.eq(self._idle_cycles)
        with m.Elif(~idle):
            m.d.sync += left.eq(left - 1)

        def take(state: str, size, following: str) -> None:
            """A part of ``size`` bytes."""
            with m.State(state):
                with m.If(line.valid):
                    m.d.comb += checker.valid.eq(1)
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == size - 1):
                        m.d.sync += count.eq(0)
                        m.next = following
                with m.Elif(line.broken):
                    m.next = "deaf"
                with m.Elif(idle):
                    m.next = "wait"

        with m.FSM() as fsm:
            with m.State("wait"):
                m.d.comb += checker.start.eq(1)
                m.d.sync += [count.eq(0), request.p.verdict.eq(Status.OKAY)]
                with m.If(line.valid & (line.data == REQUEST_START)):
                    m.next = "header"
                with m.Elif(line.broken):
                    m.next = "deaf"
            take("header", REQUEST.size, "look")
            with m.State("look"):
                m.next = "trailer"
                with m.If(header.operation[0]):
                    m.next = "payload"
                    with m.If((header.length == 0) | (header.length > PAYLOAD_BYTES)):
                        m.d.sync += request.p.verdict.eq(Status.LENGTH)
                        m.next = "offer"
            take("payload", header.length, "trailer")
            take("trailer", CRC_BYTES, "judge")
            with m.State("judge"):
                m.d.sync += request.p.verdict.eq(Mux(checker.match_detected, Status.OKAY, Status.CHECKSUM))
                m.next = "offer"
            with m.State("offer"):
                m.d.comb += request.valid.eq(1)
                with m.If(request.ready):
                    m.next = "deaf"
                    with m.If(request.p.verdict == Status.OKAY):
                        m.next = "wait"
            with m.State("deaf"), m.If(idle & ~line.valid & ~line.broken):
                m.next = "wait"

        with m.If(fsm.ongoing("header") & line.valid):
            m.d.sync += taking.eq(Cat(taking[8:], line.data))
        m.d.comb += self.buffer.enable.eq(fsm.ongoing("payload") & line.valid)
        return m


class FrameSender(wiring.Component):
    """Sends replies.

    Members
    -------
    reply : stream of ``REPLY.layout``, in
        Taken when its last byte has been accepted.
    buffer : BufferReadSignature, out
        The reply's ``length`` bytes, from address 0.
    bytes : stream of 8 bits, out
    """

    def __init__(self) -> None:
        super().__init__({
            "reply": In(stream.Signature(REPLY.layout)),
            "buffer": Out(BufferReadSignature()),
            "bytes": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = maker = _crc_processor()
        reply = self.reply
        count = Signal(range(PAYLOAD_BYTES + 1))
        sent = Signal()
        m.d.comb += [
            sent.eq(self.bytes.valid & self.bytes.ready),
            maker.data.eq(self.bytes.payload),
            self.buffer.address.eq(count),
        ]
        with m.FSM():
            with m.State("start"):
                m.d.comb += [self.bytes.valid.eq(reply.valid), self.bytes.payload.eq(REPLY_START), maker.start.eq(1)]
                m.d.sync += count.eq(0)
                with m.If(sent):
                    m.next = "header"
            with m.State("header"):
                m.d.comb += [
                    self.bytes.valid.eq(1), maker.valid.eq(sent),
                    self.bytes.payload.eq(reply.p.as_value().word_select(count[:2], 8))]
                with m.If(sent):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == REPLY.size - 1):
                        m.d.sync += count.eq(0)
                        m.next = "fetch"
            with m.State("fetch"):  # the buffer answers in the next cycle
                m.next = "payload"
                with m.If(count == reply.p.length):
                    m.d.sync += count.eq(0)
                    m.next = "trailer"
            with m.State("payload"):
                m.d.comb += [
                    self.bytes.valid.eq(1), maker.valid.eq(sent), self.bytes.payload.eq(self.buffer.data)]
                with m.If(sent):
                    m.d.sync += count.eq(count + 1)
                    m.next = "fetch"
            with m.State("trailer"):
                m.d.comb += [
                    self.bytes.valid.eq(1), self.bytes.payload.eq(maker.crc.word_select(count[:2], 8))]
                with m.If(sent):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == CRC_BYTES - 1):
                        m.d.comb += reply.ready.eq(1)
                        m.next = "start"
        return m
