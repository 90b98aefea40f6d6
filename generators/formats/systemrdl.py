"""Registers to SystemRDL 2.0, from which register tools make documents, UVM models and headers in other languages."""

from collections.abc import Iterator

from amaranth import Shape
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import constant_registers
from celosia.hdl.registers import REGISTERS, Access, Bits, ErrorCause, Register

from ..verilog import TOP

__all__ = ["reset_values", "to_systemrdl"]

#: How software and hardware use a field of each access, in SystemRDL.
_ACCESS = {
    Access.READ: "sw = r; hw = w;",
    Access.WRITE: "sw = rw; hw = r;",
    Access.COMMAND: "sw = w; hw = r; singlepulse;",
}
_CONSTANT = "sw = r; hw = na;"


def reset_values(config: AcceleratorConfig) -> dict[str, int]:
    """What each register of the accelerator of ``config`` reads as after a reset, by name."""
    return {register.name: register.reset for register in REGISTERS} | constant_registers(config)


def to_systemrdl(config: AcceleratorConfig, prefix: str = TOP) -> str:
    """The register map of ``config`` as an address map called ``prefix``, as the top module is. All names of types
    begin with it.

    A register that is one number has a field ``value``. A command is a field that pulses; it is not kept, and reads as
    zero. What tells what the hardware is (``hdl/control/control.py``) is a constant.
    """
    constants = constant_registers(config)
    resets = reset_values(config)
    cause_type = f"{prefix}_error_cause"
    return "\n".join([
        "// Celosia accelerator: generated, do not edit.",
        "",
        f"enum {cause_type} {{",
        *(f"    {cause.name} = {Shape.cast(ErrorCause).width}'d{cause.value};" for cause in ErrorCause),
        "};",
        "",
        f"addrmap {prefix} {{",
        f"    name = {_text(f'Celosia accelerator, configuration {config.name}')};",
        "    default regwidth = 32;",
        "    default accesswidth = 32;",
        *(line for register in REGISTERS
          for line in _register(register, resets[register.name], register.name in constants, cause_type)),
        "};",
        "",
    ])


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _register(register: Register, reset: int, constant: bool, cause_type: str) -> Iterator[str]:
    yield ""
    yield "    reg {"
    yield f"        desc = {_text(register.doc)};"
    for field in register.fields():
        yield "        field {"
        yield f"            desc = {_text(field.doc)};"
        yield f"            {_CONSTANT if constant else _ACCESS[register.access_of(field)]}"
        if field.values is ErrorCause:
            yield f"            encode = {cause_type};"
        yield f"        }} {field.name}[{field.offset + field.width - 1}:{field.offset}] = {_reset(field, reset)};"
    yield f"    }} {register.name} @ 0x{register.offset:03x};"


def _reset(field: Bits, reset: int) -> str:
    return f"{field.width}'h{reset >> field.offset & ((1 << field.width) - 1):x}"
