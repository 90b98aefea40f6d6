"""The benchmark's results: a list that a diff shows."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["RESULTS_FILE", "Result", "save"]

RESULTS_FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Result:
    """One measured value. ``target`` is what it must reach, or None; with ``at_most`` it is an upper bound."""

    name: str
    config: str
    work: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def __str__(self) -> str:
        bound = "" if self.target is None else f" ({'at most' if self.at_most else 'at least'} {self.target:g})"
        verdict = {None: "", True: "  met", False: "  MISSED"}[self.met]
        return f"{self.name:32} {self.config:6} {self.work:48} {self.value:12,.5g} {self.unit}{bound}{verdict}"


def save(results: list[Result]) -> None:
    """Write the results, replacing those of the same name, configuration and work, keeping the others."""
    known = json.loads(RESULTS_FILE.read_text()) if RESULTS_FILE.exists() else []
    merged = {(entry["name"], entry["config"], entry["work"]): entry for entry in known}
    for result in results:
        entry = asdict(result)
        del entry["at_most"]
        merged[result.name, result.config, result.work] = {**entry, "met": result.met}
    RESULTS_FILE.write_text(json.dumps(list(merged.values()), indent=1) + "\n")
