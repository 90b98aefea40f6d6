"""Configuration to a Tcl script that packages the Verilog as an IP for Vivado's IP integrator."""

from collections.abc import Iterator

from celosia.hdl.bus.bursts import BURST_BEATS
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import CONTROL_ADDRESS_BITS
from celosia.hdl.control.fetch import PREFETCH
from celosia.hdl.isa import INSTRUCTION_BYTES
from celosia.hdl.registers import VERSION

from .ports import Interface, Kind, interfaces_of, reset_name

__all__ = ["to_packaging_script"]

#: The type that Vivado knows an interface by.
_TYPES = {
    Kind.CLOCK: "signal:clock",
    Kind.RESET: "signal:reset",
    Kind.AXI4: "interface:aximm",
    Kind.AXI4_LITE: "interface:aximm",
    Kind.INTERRUPT: "signal:interrupt",
}

_HEAD = """\
# Celosia accelerator: generated, do not edit.
#
#     vivado -mode batch -source {script}
#
# packages it as an IP into the folder {prefix}_ip beside this script. Add that folder to the IP repositories of a
# project.

set folder [file dirname [file normalize [info script]]]
create_project -force {prefix}_package [file join $folder {prefix}_vivado]
add_files -norecurse [list {sources}]
add_files -norecurse -fileset constrs_1 [file join $folder {xdc}]
set_property USED_IN {{synthesis implementation out_of_context}} [get_files {xdc}]
set_property top {prefix} [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir [file join $folder {prefix}_ip] -vendor celosia -library accelerators \\
    -taxonomy /UserIP -import_files -force -set_current true
set core [ipx::current_core]
set_property name {prefix} $core
set_property version {version} $core
set_property display_name {{Celosia accelerator, configuration {config}}} $core
set_property description {{Integer-only Transformer encoder accelerator, {rows} x {cols} PEs}} $core
set_property auto_family_support_level level_2 $core

# What Vivado has guessed from the names of the ports is replaced by what they are.
ipx::remove_all_bus_interface $core
ipx::remove_all_memory_map $core

proc add_interface {{core name type mode ports parameters}} {{
    set interface [ipx::add_bus_interface $name $core]
    set_property abstraction_type_vlnv xilinx.com:${{type}}_rtl:1.0 $interface
    set_property bus_type_vlnv xilinx.com:${{type}}:1.0 $interface
    set_property interface_mode $mode $interface
    foreach {{logical physical}} $ports {{
        set_property physical_name $physical [ipx::add_port_map $logical $interface]
    }}
    foreach {{parameter value}} $parameters {{
        set_property value $value [ipx::add_bus_parameter $parameter $interface]
    }}
}}
"""

_REGISTERS = """
# The registers, as the host addresses them.
set block [ipx::add_address_block registers [ipx::add_memory_map {name} $core]]
set_property usage register $block
set_property base_address 0 $block
set_property range {size} $block
set_property width 32 $block
set_property slave_memory_map_ref {name} [ipx::get_bus_interfaces {name} -of_objects $core]
"""

_MEMORY = """
# The memory, as the accelerator addresses it.
if {{[llength [ipx::get_address_spaces {name} -of_objects $core -quiet]] == 0}} {{
    ipx::add_address_space {name} $core
}}
set_property range {size} [ipx::get_address_spaces {name} -of_objects $core]
set_property width {width} [ipx::get_address_spaces {name} -of_objects $core]
set_property master_address_space_ref {name} [ipx::get_bus_interfaces {name} -of_objects $core]
"""

_TAIL = """
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project -delete
"""


def to_packaging_script(config: AcceleratorConfig, prefix: str, *, script: str, sources: tuple[str, ...],
                        xdc: str) -> str:
    """The script of ``config``.

    Parameters
    ----------
    prefix : str
        The name of the IP and of the top module; the folders that the script makes begin with it.
    script, sources, xdc : str
        The names of the script itself, of the Verilog files to synthesise, and of the constraints, all in one folder.
        The constraints are for synthesis out of context: in a design, the clock comes from there.

    Each interface is declared with its ports rather than inferred from their names, so that what the IP integrator
    shows does not depend on the version of Vivado.
    """
    interfaces = interfaces_of(config)
    parts = [_HEAD.format(
        prefix=prefix, script=script, xdc=xdc, config=config.name, rows=config.rows, cols=config.cols,
        sources=" ".join(f"[file join $folder {source}]" for source in sources),
        version=f"{VERSION >> 16}.{VERSION & 0xFFFF}")]
    parts += ["\n" + "\n".join(_interface(interface, config, interfaces)) + "\n" for interface in interfaces]
    for interface in interfaces:
        if interface.kind is Kind.AXI4_LITE:
            parts.append(_REGISTERS.format(name=interface.name, size=1 << CONTROL_ADDRESS_BITS))
        if interface.kind is Kind.AXI4:
            parts.append(_MEMORY.format(
                name=interface.name, size=1 << config.address_bits, width=config.address_bits))
    return "".join([*parts, _TAIL])


def _interface(interface: Interface, config: AcceleratorConfig, interfaces: tuple[Interface, ...]) -> Iterator[str]:
    mode = "master" if interface.manager else "slave"
    yield f"add_interface $core {interface.name} {_TYPES[interface.kind]} {mode} {{"
    for port in interface.ports:
        yield f"    {port.logical} {port.name}"
    yield "} {"
    for name, value in _parameters(interface.kind, config, interfaces).items():
        yield f"    {name} {value}"
    yield "}"


def _parameters(kind: Kind, config: AcceleratorConfig, interfaces: tuple[Interface, ...]) -> dict[str, str | int]:
    if kind is Kind.CLOCK:
        buses = [interface.name for interface in interfaces if interface.kind in (Kind.AXI4, Kind.AXI4_LITE)]
        return {"ASSOCIATED_BUSIF": ":".join(buses), "ASSOCIATED_RESET": reset_name()}
    if kind is Kind.RESET:
        return {"POLARITY": "ACTIVE_HIGH"}
    if kind is Kind.INTERRUPT:
        return {"SENSITIVITY": "LEVEL_HIGH"}
    if kind is Kind.AXI4_LITE:
        return {"PROTOCOL": "AXI4LITE"}
    fetched = PREFETCH * INSTRUCTION_BYTES // config.bus_bytes
    return {"PROTOCOL": "AXI4", "MAX_BURST_LENGTH": max(BURST_BEATS, fetched),
            "NUM_READ_OUTSTANDING": config.outstanding_reads, "SUPPORTS_NARROW_BURST": 0}
