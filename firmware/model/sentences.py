"""The English sentences that come with the package: see ``data/ORIGIN.md``."""

from importlib import resources

__all__ = ["calibration_sentences", "evaluation_sentences"]


def _read(name: str) -> list[str]:
    return resources.files("celosia.firmware").joinpath("data", name).read_text(encoding="utf-8").splitlines()


def calibration_sentences() -> list[str]:
    """196 sentences of 5 to 60 tokens, to calibrate with."""
    return _read("calibration.txt")


def evaluation_sentences() -> list[str]:
    """299 sentences of 5 to 60 tokens, none of them among those for calibration, to measure with."""
    return _read("evaluation.txt")
