"""Configuration to a FuseSoC core (CAPI 2), with a target that lints it."""

from importlib.metadata import version

from celosia.hdl.config import AcceleratorConfig

__all__ = ["core_name", "to_core"]


def core_name(prefix: str) -> str:
    """Vendor, library, name and version, which FuseSoC finds the core by."""
    return f"celosia:accelerators:{prefix}:{version('celosia')}"


def to_core(config: AcceleratorConfig, prefix: str, *, sources: tuple[str, ...], models: tuple[str, ...], waivers: str,
            xdc: str, lpf: str) -> str:
    """The core of ``config``.

    Parameters
    ----------
    prefix : name of the core and of the top module
    sources : names of the Verilog files to synthesise
    models : names of those that are only simulated and linted
    waivers : name of the control file for Verilator
    xdc, lpf : names of the constraints, which are used when the core is the top of the design

    The target ``lint`` runs Verilator with all warnings.
    """
    # FuseSoC does not tell a core which tool a flow uses: files for simulators and linters are left out only where the
    # tool is known, and no such one.
    simulated = ["      - '!tool_vivado? (!tool_trellis? (models))'"] if models else []
    return "\n".join([
        "CAPI=2:",
        "# Celosia accelerator: generated, do not edit.",
        f"name: {core_name(prefix)}",
        f"description: Integer-only Transformer encoder accelerator, configuration {config.name}",
        "",
        "filesets:",
        *_fileset("rtl", sources, "verilogSource-2001"),
        *(_fileset("models", models, "verilogSource-2001") if models else []),
        *_fileset("waivers", (waivers,), "vlt"),
        *_fileset("vivado", (xdc,), "xdc"),
        *_fileset("trellis", (lpf,), "LPF"),
        "",
        "targets:",
        "  default: &default",
        "    filesets:",
        "      - rtl",
        *simulated,
        "      - '!tool_vivado? (!tool_trellis? (!tool_icarus? (waivers)))'",
        "      - is_toplevel? (tool_vivado? (vivado))",
        "      - is_toplevel? (tool_trellis? (trellis))",
        f"    toplevel: {prefix}",
        "  lint:",
        "    <<: *default",
        "    description: Verilator with all warnings but those that are waived",
        "    flow: lint",
        "    flow_options:",
        "      tool: verilator",
        "      verilator_options: [-Wall]",
        "",
    ])


def _fileset(name: str, files: tuple[str, ...], file_type: str) -> list[str]:
    return [f"  {name}:", f"    files: [{', '.join(files)}]", f"    file_type: {file_type}"]
