"""The lint waivers as a control file for Verilator."""

from celosia.hdl.lint import WAIVERS

__all__ = ["to_waivers"]


def to_waivers(source: str) -> str:
    """A ``.vlt`` file that waives, in the Verilog file called ``source`` alone, what is explained beside it."""
    lines = [f"// Lint waivers for {source}: generated, do not edit. Give this file to Verilator before the Verilog.",
             "`verilator_config"]
    for waiver in WAIVERS:
        lines += ["", f"// {waiver.reason}", f'lint_off -rule {waiver.rule} -file "*{source}"']
    return "\n".join([*lines, ""])
