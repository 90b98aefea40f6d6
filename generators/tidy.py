"""Makes Amaranth's Verilog read like Verilog: registers with enables in place of next-state variables."""

import re
from collections import Counter

__all__ = ["tidy"]

_MODULE = re.compile(r"^module .*?^endmodule\n", re.MULTILINE | re.DOTALL)
_NAME = r"(?:\\\S+ |[A-Za-z_]\w*)"
_REGISTER = re.compile(rf"^  always @\((posedge \S+)\)\n    ({_NAME}) <= ({_NAME});\n", re.MULTILINE)
_NEXT_STATE = re.compile(
    r"^  always @\* begin\n    if \(\\\$auto\S+ \) begin end\n"
    rf"    ({_NAME}) = ({_NAME});\n((?:     *\S.*\n)+)  end\n", re.MULTILINE)
# An assignment of a word after copies of one of its bits. On the right side there is nothing else: beside an unsigned
# operand, $signed would not extend a sign.
_EXTENDED = re.compile(
    rf"^( +(?:assign )?{_NAME}(?: ?\[[\d:]+\] ?)? *<?= )\{{ (({_NAME})\[(\d+)\])(?:, \2)*, \3 ?\}}(?=;$)", re.MULTILINE)
_WIRE = re.compile(rf"^(?:  \(\* .* \*\)\n)*  wire (?:\[[\d:]+\] )?({_NAME});\n", re.MULTILINE)
_PORT = re.compile(rf"^  (?:input|output) (?:\[[\d:]+\] )?({_NAME});\n", re.MULTILINE)
_ASSIGNMENT = re.compile(rf"^  assign ({_NAME})(?: ?\[[\d:]+\] ?)? = (.*);\n", re.MULTILINE)
_WORD = re.compile(rf"^  (?:wire|reg) \[(\d+):0\] ({_NAME})(?: = \S+)?;$", re.MULTILINE)


def tidy(text: str) -> str:
    """The same circuit, shorter, and the same at its start: what registers and memories begin with stays.

    * A wire that nothing reads and whose name Amaranth has made goes, with what is assigned to it: the fields of a
      structure, which have names beside the structure's own, and both sides of a connection.
    * A variable that only holds what a register will become, ``next = register; if (e) next = value;`` and
      ``register <= next``, is replaced by ``if (e) register <= value``: the register's own block says when it
      changes, and a simulator skips it when it does not.
    * A word after copies of its sign becomes ``$signed(word)``, which the assignment extends as well: read once, the
      word is something a simulator need only evaluate where it is assigned.
    * Element 2 of an array, which Amaranth calls ``\\sums[2]``, becomes ``sums_2``: bit 2 of ``sums`` has the first
      name too inside of Yosys, and ABC takes one for the other.
    """
    return _MODULE.sub(lambda match: _tidy_module(match[0]), _without_brackets(text))


def _without_brackets(text: str) -> str:
    taken = {name.lstrip("\\").rstrip() for name in re.findall(_NAME, text)}
    renamed: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        if match[0] not in renamed:
            name = match[1].replace("[", "_").replace("]", "")
            while name in taken:
                name += "_"
            taken.add(name)
            renamed[match[0]] = f"{name} " if re.fullmatch(r"[A-Za-z_]\w*", name) else f"\\{name} "
        return renamed[match[0]]

    return re.sub(r"\\(\S*\[\S*) ", rename, text)


def _tidy_module(module: str) -> str:
    return _with_signs(_with_enables(_without_unread(module)))


def _without_unread(module: str) -> str:
    wires = {name for name in _WIRE.findall(module) if "." in name or "$" in name} - set(_PORT.findall(module))
    mentions = Counter(re.findall(_NAME, module))
    values: dict[str, list[str]] = {wire: [] for wire in wires}
    for wire, value in _ASSIGNMENT.findall(module):
        if wire in wires:
            values[wire].append(value)

    def unread(wire: str) -> bool:
        """It is named where it is declared and assigned, and nowhere else."""
        return mentions[wire] == 1 + len(values[wire])

    gone: set[str] = set()
    found = [wire for wire in wires if unread(wire)]
    while found:
        wire = found.pop()
        gone.add(wire)
        for name in re.findall(_NAME, " ".join(values[wire])):
            mentions[name] -= 1
            if name in wires and name not in gone and unread(name):
                found.append(name)
    module = _ASSIGNMENT.sub(lambda match: "" if match[1] in gone else match[0], module)
    return _WIRE.sub(lambda match: "" if match[1] in gone else match[0], module)


def _with_signs(module: str) -> str:
    signs = {name: int(sign) for sign, name in _WORD.findall(module)}
    return _EXTENDED.sub(
        lambda match: f"{match[1]}$signed({match[3]})" if signs.get(match[3]) == int(match[4]) else match[0], module)


def _with_enables(module: str) -> str:
    registers = {next_state: (register, edge) for edge, register, next_state in _REGISTER.findall(module)}
    uses = dict.fromkeys(registers, 0)
    for name in re.findall(_NAME, module):
        if name in uses:
            uses[name] += 1
    merged = set()

    def clocked(match: re.Match[str]) -> str:
        name, default, body = match.groups()
        register, edge = registers.get(name, (None, None))
        assignment = re.compile(rf"^( +){re.escape(name)}( ?\[[\d:]+\] ?)?( *)= ", re.MULTILINE)
        assigned = len(assignment.findall(body))
        targets = len(re.findall(r"^ +\S.* = .*;$", body, re.MULTILINE))
        # Declared once, given its default, assigned, and read by its register: nobody else looks at it.
        if register is None or default != register or targets != assigned or uses[name] != 3 + assigned:
            return match[0]
        merged.add(name)
        return f"  always @({edge}) begin\n" + assignment.sub(
            lambda found: f"{found[1]}{register}{found[2] or ''} <= ", body) + "  end\n"

    module = _NEXT_STATE.sub(clocked, module)
    module = _REGISTER.sub(lambda match: "" if match[3] in merged else match[0], module)
    return re.sub(rf"^  reg (?:\[[\d:]+\] )?({_NAME});\n",
                  lambda match: "" if match[1] in merged else match[0], module, flags=re.MULTILINE)
