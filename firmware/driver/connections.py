"""Ways to an accelerator by their names."""

import re

from ...hdl.board.serial_line import DEFAULT_BAUD
from .pynq_transport import PynqTransport
from .serial_transport import SerialTransport
from .transport import Transport, TransportError

__all__ = ["CONNECTIONS", "transport_from_text"]

#: How a connection is written.
CONNECTIONS = "serial:PORT[@BAUD] or pynq:OVERLAY.bit"


def transport_from_text(text: str) -> Transport:
    """A transport as the command line names it: ``serial:/dev/ttyUSB0``, ``serial:/dev/ttyUSB0@3000000``,
    ``pynq:overlay.bit``.

    Raises
    ------
    TransportError
        When the text is none of these, or the transport can't be made.
    """
    kind, _, rest = text.partition(":")
    if kind == "serial" and rest:
        port, baud = re.fullmatch(r"(.*?)(?:@([0-9]{1,9}))?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        if port:
            return SerialTransport(port, int(baud) if baud else DEFAULT_BAUD)
    if kind == "pynq" and rest:
        return PynqTransport(rest)
    raise TransportError(f"a transport must be {CONNECTIONS}, not {text!r}")
