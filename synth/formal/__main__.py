"""Prove the properties of the memory bus and the gates of sums of products and squares, and that each planted fault is
found: ``python -m celosia.synth.formal``.

Exit codes: 0 all as it should be, 1 not, 2 a tool is missing.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..tools import SynthesisError
from .faults import FAULTS, planted
from .properties import PROOFS
from .prover import prove
from .sums import SQUARE_FAULTS, SQUARE_WIDTH, SUM_FAULTS, SUMS, prove_square, prove_sums

__all__ = ["main"]


def main() -> int:
    """Print a line for each proof and each planted fault."""
    out = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("proof", "how far", "planted fault", "outcome")
    failed = False
    with tempfile.TemporaryDirectory(prefix="celosia-formal-") as folder:
        try:
            for name, proof in PROOFS.items():
                far = "for ever" if proof.induction else f"{proof.depth} cycles"
                outcome = prove(proof(), Path(folder))
                failed |= not outcome.proved
                table.add_row(name, far, "", "proved" if outcome.proved else f"DOES NOT HOLD: {outcome.reason}")
            for fault in FAULTS:
                with planted(fault) as proof:
                    outcome = prove(proof(), Path(folder))
                failed |= outcome.proved
                found = "NOT FOUND" if outcome.proved else f"found: {outcome.reason}"
                table.add_row(fault.proof, "", fault.what, found)
            for name, shape in SUMS.items():
                outcome = prove_sums(*shape, Path(folder))
                failed |= not outcome.proved
                table.add_row(f"sum of products: {name}", "all values", "", "proved" if outcome.proved else
                              f"DOES NOT HOLD: {outcome.reason}")
            for sum_fault in SUM_FAULTS:
                outcome = prove_sums(*SUMS["first rows"], Path(folder), sum_fault)
                failed |= outcome.proved
                found = "NOT FOUND" if outcome.proved else f"found: {outcome.reason}"
                table.add_row("sum of products: first rows", "", sum_fault.what, found)
            outcome = prove_square(SQUARE_WIDTH, Path(folder))
            failed |= not outcome.proved
            table.add_row("square", "all values", "", "proved" if outcome.proved else
                          f"DOES NOT HOLD: {outcome.reason}")
            for sum_fault in SQUARE_FAULTS:
                outcome = prove_square(SQUARE_WIDTH, Path(folder), sum_fault)
                failed |= outcome.proved
                found = "NOT FOUND" if outcome.proved else f"found: {outcome.reason}"
                table.add_row("square", "", sum_fault.what, found)
        except SynthesisError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    out.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
