"""Configuration to C header: registers, instructions, and the configuration itself."""

from dataclasses import fields

from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import FORMATS, RECORDS, Function, Opcode
from celosia.hdl.registers import ACCELERATOR_ID, REGISTERS, VERSION, ErrorCause

__all__ = ["to_header"]


def _section(title: str) -> list[str]:
    return ["", f"/* {title} */"]


def to_header(config: AcceleratorConfig) -> str:
    """A C99 header with a macro for every register, register field, instruction field and parameter.

    An instruction or record field ``F`` of format ``X`` has ``CELOSIA_X_F_BIT`` (its lowest bit, counted from the
    record's first byte, little endian) and ``CELOSIA_X_F_WIDTH``.
    """
    lines = ["/* Celosia accelerator: generated, do not edit. */", "#ifndef CELOSIA_H", "#define CELOSIA_H"]
    lines += _section("Configuration")
    for spec in fields(config):
        value = getattr(config, spec.name)
        text = f'"{value}"' if isinstance(value, str) else str(value)
        unit = f" ({spec.metadata['unit']})" if spec.metadata["unit"] else ""
        lines.append(f"#define CELOSIA_{spec.name.upper()} {text} /* {spec.metadata['doc']}{unit} */")
    lines += _section("Registers: byte offsets, and lowest bit and width of their fields")
    lines += [f"#define CELOSIA_ACCELERATOR_ID 0x{ACCELERATOR_ID:08x}u", f"#define CELOSIA_VERSION 0x{VERSION:08x}u"]
    for register in REGISTERS:
        name = f"CELOSIA_REG_{register.name.upper()}"
        lines.append(f"#define {name} 0x{register.offset:03x} /* {register.doc}; {register.access.value} */")
        for bits in register.bits:
            lines += [f"#define {name}_{bits.name.upper()}_BIT {bits.offset} /* {bits.doc} */",
                      f"#define {name}_{bits.name.upper()}_WIDTH {bits.width}"]
    lines += _section("Error causes")
    lines += [f"#define CELOSIA_ERROR_{cause.name} {cause.value}" for cause in ErrorCause]
    lines += _section("Opcodes and vector functions")
    lines += [f"#define CELOSIA_OP_{opcode.name} {opcode.value}" for opcode in Opcode]
    lines += [f"#define CELOSIA_FUNCTION_{function.name} {function.value}" for function in Function]
    formats = {form.name: form for form in [*FORMATS.values(), *RECORDS]}
    for form in formats.values():
        lines += _section(f"{form.name}, {form.size} bytes")
        lines.append(f"#define CELOSIA_{form.name.upper()}_BYTES {form.size}")
        for field in form.fields:
            name = f"CELOSIA_{form.name.upper()}_{field.name.upper()}"
            lines += [f"#define {name}_BIT {field.offset} /* {field.doc} */", f"#define {name}_WIDTH {field.width}"]
    return "\n".join([*lines, "", "#endif", ""])
