"""Texts that stand one on a line; and the English sentences that come with the package: see ``data/ORIGIN.md``."""

from importlib import resources

__all__ = ["calibration_sentences", "evaluation_kinds", "evaluation_sentences", "text_lines"]


def text_lines(data: bytes) -> list[str]:
    """The lines of a file in UTF-8, of which texts are made. A line ends at LF or CRLF, and at no other character; a
    byte order mark at the start of the file belongs to none.

    Raises
    ------
    UnicodeDecodeError
        When the file is in another encoding.
    """
    lines = data.decode("utf-8-sig").split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _read(name: str) -> list[str]:
    return text_lines(resources.files("celosia.firmware").joinpath("data", name).read_bytes())


def calibration_sentences() -> list[str]:
    """196 sentences of 5 to 60 tokens, to calibrate with."""
    return _read("calibration.txt")


def evaluation_sentences() -> list[str]:
    """299 sentences of 5 to 60 tokens, none of them among those for calibration, to measure with."""
    return _read("evaluation.txt")


def evaluation_kinds() -> dict[str, list[str]]:
    """Texts that are no English sentences, to measure with, by kind: ``scripts`` (sentences in twelve writing systems),
    ``code``, ``numbers`` and ``degenerate`` (one thing many times, single marks and tokens)."""
    kinds: dict[str, list[str]] = {}
    for line in _read("evaluation_kinds.txt"):
        kind, text = line.split("\t")
        kinds.setdefault(kind, []).append(text)
    return kinds
