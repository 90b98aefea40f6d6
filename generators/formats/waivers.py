"""The lint waivers as a control file for Verilator."""

from celosia.hdl.parts.lint import MODEL_WAIVERS, WAIVERS, Waiver

__all__ = ["to_waivers"]


def to_waivers(source: str, model: str | None = None) -> str:
    """A ``.vlt`` file that waives, in the Verilog file called ``source`` alone, what is explained beside it; and in the
    file ``model``, if there is one, of the vendor's cells."""
    lines = [f"// Lint waivers for {source}: generated, do not edit. Give this file to Verilator before the Verilog.",
             "`verilator_config"]
    lines += _rules(source, WAIVERS)
    if model is not None:
        lines += _rules(model, MODEL_WAIVERS)
    return "\n".join([*lines, ""])


def _rules(source: str, waivers: tuple[Waiver, ...]) -> list[str]:
    # A pattern of its whole name, wherever it lies: other names may end as it does.
    return [line for waiver in waivers
            for line in ("", f"// {waiver.reason}", *(f'lint_off -rule {waiver.rule} -file "{pattern}"'
                                                      for pattern in (source, f"*/{source}")))]
