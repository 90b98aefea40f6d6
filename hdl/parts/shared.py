"""Modules that are written once and used many times: Amaranth itself writes every use out in full."""

from collections.abc import Callable
from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance
from amaranth.hdl import Value, ValueCastable
from amaranth.lib.wiring import Out

__all__ = ["LIBRARY", "ModuleLibrary", "Shared"]

#: With this and ``_``, the names of all modules of a library begin until the design becomes Verilog.
LIBRARY = "celosia"


class ModuleLibrary:
    """The ``platform`` of a design that becomes one Verilog text: collects the modules that belong to it.

    Parameters
    ----------
    target : str
        As in the configuration.
    rolled_array : bool
        The systolic array is the model of :mod:`~celosia.hdl.matmul.rolled_array`: for simulation, never for hardware.

    Attributes
    ----------
    files : dict of str to str
        Verilog of modules, by file name.
    components : dict of str to Component
        Components that are to be converted, by module name.

    Rules
    -----
    1. A name is one content: the name of a module that is shared holds all that its content depends on, beside the
       parameters of this library, which are those of the whole design.
    2. Whoever adds another content by a name that is taken gets a ``ValueError``.
    """

    def __init__(self, target: str = "generic", *, rolled_array: bool = False):
        self.target = target
        self.rolled_array = rolled_array
        self.files: dict[str, str] = {}
        self.components: dict[str, Any] = {}
        self._origins: dict[str, tuple[Any, ...]] = {}

    def add_file(self, name: str, text: str) -> None:
        """As of Amaranth's own platforms."""
        if self.files.setdefault(name, text) != text:
            raise ValueError(f"the file {name} must have one content in a design, not two")

    def add_component(self, name: str, component: Any, *origin: Any) -> None:
        """A component that is to become the module ``name``. Equal ``origin``, equal content: one of them is enough."""
        if self._origins.setdefault(name, origin) != origin:
            raise ValueError(f"the module {name} must be one in a design, not both {_call(self._origins[name])} "
                             f"and {_call(origin)}")
        self.components.setdefault(name, component)


def _call(origin: tuple[Any, ...]) -> str:
    kind, *arguments = origin
    return f"{kind.__name__}({', '.join(map(repr, arguments))})"


class Shared(Elaboratable):
    """A component, as an instance of a Verilog module that is written once where the design becomes one Verilog text;
    as it is where an Amaranth platform builds it.

    It is made here, from ``arguments``, so that its module's name, which holds them, tells it from all others.

    Parameters
    ----------
    name : str
        What it is.
    kind : class of Component
        It has the clock of ``sync``, and no register in it has a reset.
    arguments : int or str
        Of ``kind``.

    Attributes
    ----------
    component : Component
    """

    def __init__(self, name: str, kind: Callable[..., Any], *arguments: int | str):
        self.component = kind(*arguments)
        self._origin = (kind, *arguments)
        self.module = "_".join([LIBRARY, name, *map(str, arguments)])

    def elaborate(self, platform):
        if not isinstance(platform, ModuleLibrary):
            return self.component
        platform.add_component(self.module, self.component, *self._origin)
        self.component._MustUse__used = True  # else Amaranth warns that nothing elaborates it
        ports: dict[str, Any] = {"i_clk": ClockSignal()}
        for path, member, value in self.component.signature.flatten(self.component):
            signal = value.as_value() if isinstance(value, ValueCastable) else value
            if isinstance(signal, Value):
                ports[("o_" if member.flow is Out else "i_") + "_".join(map(str, path))] = signal
        return Instance(self.module, **ports)
