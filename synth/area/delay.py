"""The longest path between two registers of a netlist of gates, through its hierarchy.

Each module is looked at once, however often it is used. What matters to others of it is how long a signal takes from
each input to a register in it, from a register in it to each output, and from each input to each output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..depth import net_names
from ..tools import SynthesisError
from .count import is_memory, is_register
from .gates import GATES, OUTPUT

__all__ = ["Path", "longest_paths"]

#: Ports of registers and memories that are no end of a path.
_CLOCKS = {"C", "clk"}


@dataclass(frozen=True, order=True)
class Path:
    """A path: its delay, in NANDs of two inputs, and the nets that it starts from and ends at.

    Neither a register's own delay nor its set-up time is in it. Ports of the top and of memories are registers.
    """

    delay: float
    start: str
    end: str


_Bit = tuple[str, int]


@dataclass
class _Timing:
    """Of a module: the longest path inside, to each input's last register, from each output's first, and delays from
    inputs to outputs."""

    inside: Path | None = None
    capture: dict[_Bit, Path] = field(default_factory=dict)
    launch: dict[_Bit, Path] = field(default_factory=dict)
    through: dict[_Bit, dict[_Bit, float]] = field(default_factory=dict)


def longest_paths(modules: Mapping[str, Any], top: str) -> dict[str, Path]:
    """The longest path of each module in which one meets its ends, by the module's name, the longest first.

    A path between two modules is one of the module that both lie in.

    Parameters
    ----------
    modules
        From :func:`~celosia.synth.area.mapping.map_to_gates`.
    top : str

    Raises
    ------
    SynthesisError
        When there is a combinational loop.
    """
    known: dict[str, _Timing] = {}

    def timing(name: str) -> _Timing:
        if name not in known:
            module = modules[name]
            children = {cell["type"]: timing(cell["type"]) for cell in module["cells"].values()
                        if cell["type"] in modules and not is_memory(modules[cell["type"]])}
            known[name] = _timing(name, module, children, {kind for kind in modules if is_memory(modules[kind])},
                                  ends=name == top)
        return known[name]

    timing(top)
    found = {name: each.inside for name, each in known.items() if each.inside is not None}
    return dict(sorted(found.items(), key=lambda item: (-item[1].delay, item[0])))


def _timing(
    name: str, module: Mapping[str, Any], children: Mapping[str, _Timing], memories: set[str], *, ends: bool
) -> _Timing:
    names = net_names(dict(module))
    before: dict[int, list[tuple[int, float]]] = {}  # the nets on which a net depends, and the delays from them
    arrival: dict[int, Path] = {}  # of nets that come from a register: the longest path to them
    required: dict[int, Path] = {}  # of nets that go to a register: the longest path from them

    def launch(bit: int, path: Path) -> None:
        arrival[bit] = max(arrival.get(bit, path), path)

    def capture(bit: int, path: Path) -> None:
        required[bit] = max(required.get(bit, path), path)

    for cell_name, cell in module["cells"].items():
        kind, connections = cell["type"], cell["connections"]
        if kind in GATES:
            (output,) = connections[OUTPUT]
            before[output] = [(bit, GATES[kind].delay) for port, (bit,) in connections.items()
                              if port != OUTPUT and isinstance(bit, int)]
        elif is_register(kind):
            (output,) = connections["Q"]
            label = names.get(output, cell_name)
            launch(output, Path(0.0, label, ""))
            for port, (bit,) in connections.items():
                if port not in {"Q", *_CLOCKS} and isinstance(bit, int):
                    capture(bit, Path(0.0, "", label))
        elif kind in memories:
            for port, bits in connections.items():
                for bit in bits:
                    if isinstance(bit, int) and port not in _CLOCKS:
                        if cell["port_directions"][port] == "output":
                            launch(bit, Path(0.0, f"{cell_name}.{port}", ""))
                        else:
                            capture(bit, Path(0.0, "", f"{cell_name}.{port}"))
        elif kind in children:
            child = children[kind]
            for port, bits in connections.items():
                for index, bit in enumerate(bits):
                    if not isinstance(bit, int):
                        continue
                    if (path := child.launch.get((port, index))) is not None:
                        launch(bit, Path(path.delay, f"{cell_name}.{path.start}", ""))
                    if (path := child.capture.get((port, index))) is not None:
                        capture(bit, Path(path.delay, "", f"{cell_name}.{path.end}"))
                    if delays := child.through.get((port, index)):
                        sources = ((connections[other][place], delay) for (other, place), delay in delays.items()
                                   if other in connections)
                        before[bit] = [(source, delay) for source, delay in sources if isinstance(source, int)]
    inputs, outputs = {}, {}
    for port, info in module["ports"].items():
        for index, bit in enumerate(info["bits"]):
            if not isinstance(bit, int):
                continue
            if info["direction"] == "input":
                inputs[bit] = (port, index)
                if ends:
                    launch(bit, Path(0.0, port, ""))
            else:
                outputs[port, index] = bit
                if ends:
                    capture(bit, Path(0.0, "", port))
    try:
        order = [bit for bit in TopologicalSorter(
            {bit: [source for source, _ in sources] for bit, sources in before.items()}).static_order()
            if bit in before]
    except CycleError as error:
        loop = ", ".join(sorted({names.get(bit, "?") for bit in error.args[1]}))
        raise SynthesisError(f"the module {name} must have no combinational loop, not one through {loop}") from error

    for bit in order:
        for source, delay in before[bit]:
            if source in arrival:
                path = arrival[source]
                launch(bit, Path(path.delay + delay, path.start, ""))
    inside = max((Path(arrival[bit].delay + path.delay, arrival[bit].start, path.end)
                  for bit, path in required.items() if bit in arrival), default=None)
    needed = set(outputs.values())
    for bit in reversed(order):
        path_on = required.get(bit)
        for source, delay in before[bit]:
            if path_on is not None:
                capture(source, Path(path_on.delay + delay, "", path_on.end))
            if bit in needed:
                needed.add(source)
    # From inputs to outputs, for nets between them alone: most outputs come from registers.
    through: dict[int, dict[int, float]] = {bit: {bit: 0.0} for bit in inputs if bit in needed}
    for bit in order:
        if bit in needed:
            reached = through.setdefault(bit, {})
            for source, delay in before[bit]:
                for start, so_far in through.get(source, {}).items():
                    reached[start] = max(reached.get(start, 0.0), so_far + delay)
    return _Timing(
        inside,
        {place: required[bit] for bit, place in inputs.items() if bit in required},
        {place: arrival[bit] for place, bit in outputs.items() if bit in arrival},
        {place: {inputs[start]: delay for start, delay in through[bit].items()}
         for place, bit in outputs.items() if through.get(bit)})
