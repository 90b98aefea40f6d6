"""The register map in every form that it is written in: SystemRDL, pages, C header, and the registers themselves."""

import re
from pathlib import Path

import pytest
from amaranth.sim import Simulator
from celosia.generators.configurations import configuration
from celosia.generators.formats.documents import isa_page, registers_page, write_pages
from celosia.generators.formats.header import to_header
from celosia.generators.formats.systemrdl import to_systemrdl
from celosia.hdl.bus.axi import Response
from celosia.hdl.bus.bursts import ADDRESS_BITS
from celosia.hdl.control.control import Control, constant_registers
from celosia.hdl.functions import TRAITS
from celosia.hdl.isa import FORMATS, FUNCTIONS, RECORDS, Function, Opcode
from celosia.hdl.registers import COUNTER_BITS, COUNTERS, REGISTERS, WIDE_BITS, Access, ErrorCause, register
from systemrdl import RDLCompiler
from systemrdl.rdltypes import AccessType

CONFIG = configuration("rect")
DOCS = Path(__file__).parents[2] / "docs"
SOFTWARE = {Access.READ: AccessType.r, Access.WRITE: AccessType.rw, Access.COMMAND: AccessType.w}


@pytest.fixture(scope="module")
def elaborated(tmp_path_factory):
    """The registers that the SystemRDL compiler makes of the map, by name."""
    path = tmp_path_factory.mktemp("rdl") / "celosia.rdl"
    path.write_text(to_systemrdl(CONFIG))
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    return {node.inst_name: node for node in compiler.elaborate().top.registers()}


def test_systemrdl_agrees_with_python(elaborated):
    assert list(elaborated) == [reg.name for reg in REGISTERS]
    constants = constant_registers(CONFIG)
    for reg in REGISTERS:
        node = elaborated[reg.name]
        assert (node.absolute_address, node.get_property("regwidth")) == (reg.offset, 32)
        assert node.get_property("desc") == reg.doc
        fields = {field.inst_name: field for field in node.fields()}
        assert set(fields) == ({bits.name for bits in reg.bits} or {"value"})
        for bits in reg.fields():
            field = fields[bits.name]
            assert (field.lsb, field.width) == (bits.offset, bits.width)
            assert field.get_property("sw") == SOFTWARE[reg.access_of(bits)]
            assert field.get_property("singlepulse") == (reg.access_of(bits) is Access.COMMAND)
            assert (field.get_property("hw") == AccessType.na) == (reg.name in constants)
            reset = constants.get(reg.name, reg.reset)
            assert field.get_property("reset") == reset >> bits.offset & (1 << bits.width) - 1


def test_systemrdl_lists_the_error_causes(elaborated):
    causes = elaborated["status"].get_child_by_name("cause").get_property("encode")
    assert {member.name: member.value for member in causes} == {cause.name: cause.value for cause in ErrorCause}


def test_systemrdl_agrees_with_the_header(elaborated):
    macros = {name: int(value.rstrip("u"), 0) for name, value in re.findall(
        r"^#define (\w+) (0x[0-9a-f]+u?|\d+)(?: |$)", to_header(CONFIG), re.MULTILINE)}
    for node in elaborated.values():
        name = f"CELOSIA_REG_{node.inst_name.upper()}"
        assert macros[name] == node.absolute_address
        for field in node.fields():
            if field.inst_name != "value":
                assert macros[f"{name}_{field.inst_name.upper()}_BIT"] == field.lsb
                assert macros[f"{name}_{field.inst_name.upper()}_WIDTH"] == field.width


def test_the_registers_do_what_the_systemrdl_says(elaborated):
    """Each reads its reset value, and keeps of ones written to it just the fields that software reads and writes."""
    design = Control(CONFIG)

    async def read(ctx, offset):
        ctx.set(design.bus.araddr, offset)
        ctx.set(design.bus.arvalid, 1)
        await ctx.tick().until(design.bus.arready)
        ctx.set(design.bus.arvalid, 0)
        ctx.set(design.bus.rready, 1)
        value, response = await ctx.tick().sample(design.bus.rdata, design.bus.rresp).until(design.bus.rvalid)
        ctx.set(design.bus.rready, 0)
        assert response == Response.OKAY.value
        return value

    async def write(ctx, offset, value):
        for name, signal in [("awaddr", offset), ("awvalid", 1), ("wdata", value), ("wstrb", 15), ("wvalid", 1)]:
            ctx.set(getattr(design.bus, name), signal)
        await ctx.tick().until(design.bus.awready & design.bus.wready)
        ctx.set(design.bus.awvalid, 0)
        ctx.set(design.bus.wvalid, 0)
        ctx.set(design.bus.bready, 1)
        (response,) = await ctx.tick().sample(design.bus.bresp).until(design.bus.bvalid)
        ctx.set(design.bus.bready, 0)
        return response

    async def host(ctx):
        for name, node in elaborated.items():
            fields = node.fields()
            reset = sum(field.get_property("reset") << field.lsb for field in fields)
            assert await read(ctx, node.absolute_address) == reset, name
            writable = any(field.is_sw_writable for field in fields)
            response = await write(ctx, node.absolute_address, 0xFFFFFFFF)
            assert response == (Response.OKAY if writable else Response.SLVERR).value, name
            kept = sum(((1 << field.width) - 1) << field.lsb for field in fields
                       if field.is_sw_writable and field.is_sw_readable)
            assert await read(ctx, node.absolute_address) == reset | kept, name

    simulator = Simulator(design)
    simulator.add_clock(1e-8)
    simulator.add_testbench(host)
    simulator.run()


def test_two_registers_hold_a_wide_number():
    assert ADDRESS_BITS == WIDE_BITS
    wides = dict.fromkeys(("program", "window_base", "window_limit", "error_address"), WIDE_BITS)
    for name, bits in {**wides, **{name: COUNTER_BITS for name, _doc in COUNTERS}}.items():
        low, high = register(f"{name}_low"), register(f"{name}_high")
        assert (high.offset - low.offset, low.width, high.width) == (4, 32, bits - 32)


@pytest.mark.parametrize(("name", "page"), [("registers.md", registers_page), ("isa.md", isa_page)])
def test_the_pages_are_up_to_date(name, page, tmp_path):
    assert (DOCS / name).read_text() == page(), f"docs/{name} is old: run make docs"
    write_pages(tmp_path)
    assert (tmp_path / name).read_text() == page()


def test_the_pages_name_everything():
    registers, instructions = registers_page(CONFIG), isa_page()
    values = constant_registers(CONFIG)
    for reg in REGISTERS:
        row = next(line for line in registers.splitlines() if f"| `{reg.name}` |" in line)
        assert row.startswith(f"| 0x{reg.offset:03x} |")
        assert row.endswith(f"| 0x{values.get(reg.name, reg.reset):08x} |")
    for name in (*(opcode.name for opcode in Opcode), *(function.name for function in Function)):
        assert f"| {name} |" in instructions
    for form in (*FORMATS.values(), *RECORDS):
        assert f"### {form.name}\n" in instructions
        for field in form.fields:
            high = f"{field.offset + field.width - 1}:" if field.width > 1 else ""
            assert f"| {high}{field.offset} | `{field.name}` |" in instructions


def test_the_function_table_agrees_with_the_decoder():
    for function, (parameters, result) in FUNCTIONS.items():
        traits = TRAITS[function]
        read = [name for name in ("first", "second", "mask") if getattr(traits, name)]
        tables = {Function.LOAD_ROWS: "row records", Function.LOAD_CURVE: "chords"}
        assert parameters == (
            ", ".join(read) if read else tables.get(function, "none")) + ("; operand" if traits.operand else "")
        assert traits.writes_scratchpad == ("to the scratchpad" in result)
        assert traits.row_scaled == ("by the row table" in result)
    assert set(FUNCTIONS) == set(Function)
