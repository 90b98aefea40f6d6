"""Configuration to C header: registers, instructions, and the configuration itself."""

from dataclasses import fields
from zlib import crc32

from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import FORMATS, RECORDS, Function, Opcode
from celosia.hdl.registers import ACCELERATOR_ID, REGISTERS, VERSION, ErrorCause

from ..verilog import TOP

__all__ = ["to_header"]


def _section(title: str) -> list[str]:
    return ["", f"/* {title} */"]


def to_header(config: AcceleratorConfig, prefix: str = TOP) -> str:
    """A C99 header with a macro for every register, register field, instruction field and parameter. All of them begin
    with ``prefix`` in capitals, so that headers of several accelerators can be included together.

    With the prefix ``celosia``, an instruction or record field ``F`` of format ``X`` has ``CELOSIA_X_F_BIT`` (its
    lowest bit, counted from the record's first byte, little endian) and ``CELOSIA_X_F_WIDTH``. ``CELOSIA_H`` tells the
    header from another by the same prefix: to include both is an error.
    """
    macros = prefix.upper()
    lines = _section("Configuration")
    for spec in fields(config):
        value = getattr(config, spec.name)
        text = f'"{value}"' if isinstance(value, str) else str(value)
        unit = f" ({spec.metadata['unit']})" if spec.metadata["unit"] else ""
        lines.append(f"#define {macros}_{spec.name.upper()} {text} /* {spec.metadata['doc']}{unit} */")
    lines += _section("Registers: byte offsets, and lowest bit and width of their fields")
    lines += [f"#define {macros}_ACCELERATOR_ID 0x{ACCELERATOR_ID:08x}u", f"#define {macros}_VERSION 0x{VERSION:08x}u"]
    for register in REGISTERS:
        name = f"{macros}_REG_{register.name.upper()}"
        lines.append(f"#define {name} 0x{register.offset:03x} /* {register.doc}; {register.access.value} */")
        for bits in register.bits:
            lines += [f"#define {name}_{bits.name.upper()}_BIT {bits.offset} /* {bits.doc} */",
                      f"#define {name}_{bits.name.upper()}_WIDTH {bits.width}"]
    lines += _section("Error causes")
    lines += [f"#define {macros}_ERROR_{cause.name} {cause.value}" for cause in ErrorCause]
    lines += _section("Opcodes and vector functions")
    lines += [f"#define {macros}_OP_{opcode.name} {opcode.value}" for opcode in Opcode]
    lines += [f"#define {macros}_FUNCTION_{function.name} {function.value}" for function in Function]
    formats = {form.name: form for form in [*FORMATS.values(), *RECORDS]}
    for form in formats.values():
        lines += _section(f"{form.name}, {form.size} bytes")
        lines.append(f"#define {macros}_{form.name.upper()}_BYTES {form.size}")
        for field in form.fields:
            name = f"{macros}_{form.name.upper()}_{field.name.upper()}"
            lines += [f"#define {name}_BIT {field.offset} /* {field.doc} */", f"#define {name}_WIDTH {field.width}"]
    return "\n".join([*_guarded(f"{macros}_H", prefix, lines), ""])


def _guarded(guard: str, prefix: str, lines: list[str]) -> list[str]:
    number = crc32("\n".join(lines).encode())
    return ["/* Celosia accelerator: generated, do not edit. */", f"#ifndef {guard}",
            f"#define {guard} 0x{number:08x}u /* a number of what follows, which another header has another of */",
            *lines, "", f"#elif {guard} != 0x{number:08x}u",
            f'#error "two accelerators have the prefix {prefix}: celosia generate --prefix gives one of them another"',
            "#endif"]
