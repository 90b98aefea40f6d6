"""A top around the accelerator through which a simulation sees what happens in each cycle."""

from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Engine
from celosia.hdl.registers import COUNTERS

from .formats.ports import interfaces_of
from .verilog import TOP

__all__ = ["OBSERVED", "OBSERVER", "observer"]

#: Name of the module that :func:`observer` writes.
OBSERVER = f"{TOP}_observed"

_SEQUENCER = "accelerator.control_plane.sequencer"
_NUMBER = "write_bytes"
#: What is seen of a cycle, the lowest bit first: name and the expression in the hierarchy of the Verilog. A counter
#: counts the cycles in which its bit is set, two cycles later; an engine is given instructions and finishes them. Last
#: comes what is a number, and has all the bits that are left.
OBSERVED: dict[str, str] = {
    **{name: f"accelerator.control_plane.counters.events__{name}" for name, _doc in COUNTERS if name != _NUMBER},
    **{f"{engine.name.lower()}_{event}": f"{_SEQUENCER}.{engine.name.lower()}.{signal}"
       for engine in Engine for event, signal in (
           ("accepts", "under_way.input__valid"), ("finishes", "engine__finished"))},
    _NUMBER: f"accelerator.control_plane.counters.events__{_NUMBER}",
}


def observer(config: AcceleratorConfig) -> str:
    """Verilog of a module with the ports of the accelerator of ``config`` and, as one more, ``observed``: the bits of
    :data:`OBSERVED`."""
    ports = [port for interface in interfaces_of(config) for port in interface.ports]
    declarations = [f"  {'output' if port.output else 'input'} wire [{port.width - 1}:0] {port.name}" for port in ports]
    return "\n".join([
        "", f"module {OBSERVER}(", ",\n".join([*declarations, "  output wire [31:0] observed"]), ");",
        f"  {TOP} accelerator({', '.join(f'.{port.name}({port.name})' for port in ports)});",
        f"  assign observed = {{{', '.join(reversed(OBSERVED.values()))}}};", "endmodule", ""])
