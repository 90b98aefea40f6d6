"""Modules that are written once and used many times: Amaranth itself writes every use out in full."""

from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance
from amaranth.hdl import Value, ValueCastable
from amaranth.lib.wiring import Out

__all__ = ["ModuleLibrary", "Shared"]


class ModuleLibrary:
    """The ``platform`` of a design that becomes one Verilog text: collects the modules that belong to it.

    Attributes
    ----------
    target : str
        As in the configuration.
    files : dict of str to str
        Verilog of modules, by file name.
    components : dict of str to Component
        Components that are to be converted, by module name.
    rolled_array : bool
        The systolic array is the model of :mod:`~celosia.hdl.matmul.rolled_array`: for simulation, never for hardware.
    """

    def __init__(self, target: str = "generic", *, rolled_array: bool = False):
        self.target = target
        self.rolled_array = rolled_array
        self.files: dict[str, str] = {}
        self.components: dict[str, Any] = {}

    def add_file(self, name: str, text: str) -> None:
        """As of Amaranth's own platforms."""
        self.files[name] = text


class Shared(Elaboratable):
    """``component``, as an instance of the Verilog module ``name`` where the design becomes one Verilog text; as it is
    where an Amaranth platform builds it.

    The component has the clock of ``sync``, and no register in it has a reset. All components of a name are equal.
    """

    def __init__(self, component: Any, name: str):
        self.component = component
        self.name = name

    def elaborate(self, platform):
        if not isinstance(platform, ModuleLibrary):
            return self.component
        platform.components.setdefault(self.name, self.component)
        self.component._MustUse__used = True  # else Amaranth warns that nothing elaborates it
        ports: dict[str, Any] = {"i_clk": ClockSignal()}
        for path, member, value in self.component.signature.flatten(self.component):
            signal = value.as_value() if isinstance(value, ValueCastable) else value
            if isinstance(signal, Value):
                ports[("o_" if member.flow is Out else "i_") + "_".join(map(str, path))] = signal
        return Instance(self.name, **ports)
