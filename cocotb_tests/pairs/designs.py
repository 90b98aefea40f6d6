"""Designs of several accelerators, whose ports are those of each, after its name and an underscore."""

from collections.abc import Mapping

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from celosia.generators.formats.ports import Kind, interfaces_of
from celosia.hdl.accelerator import Accelerator, AcceleratorSignature
from celosia.hdl.config import AcceleratorConfig

__all__ = ["Several", "several_folders"]


class Several(wiring.Component):
    """Accelerators in one Amaranth design, by their names."""

    def __init__(self, configs: Mapping[str, AcceleratorConfig]):
        self.configs = configs
        super().__init__({name: Out(AcceleratorSignature(config)) for name, config in configs.items()})

    def elaborate(self, platform):
        m = Module()
        for name, config in self.configs.items():
            m.submodules[name] = accelerator = Accelerator(config)
            connect(m, flipped(getattr(self, name)), accelerator)
        return m


def several_folders(top: str, configs: Mapping[str, AcceleratorConfig]) -> str:
    """Verilog of a module ``top`` around the accelerators of generated folders, by their prefixes."""
    ports, instances = ["  input wire clk", "  input wire rst"], []
    for prefix, config in configs.items():
        connections = []
        for interface in interfaces_of(config):
            for port in interface.ports:
                shared = interface.kind in (Kind.CLOCK, Kind.RESET)
                connections.append(f".{port.name}({port.name if shared else f'{prefix}_{port.name}'})")
                if not shared:
                    bits = f" [{port.width - 1}:0]" if port.width > 1 else ""
                    ports.append(f"  {'output' if port.output else 'input'} wire{bits} {prefix}_{port.name}")
        instances.append(f"  {prefix} {prefix}_0 ({', '.join(connections)});")
    return f"module {top} (\n" + ",\n".join(ports) + "\n);\n" + "\n".join(instances) + "\nendmodule\n"
