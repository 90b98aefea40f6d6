"""What is read out of netlists and kept of synthesis; the tools themselves take too long for a test."""

import json
import re

import pytest
from celosia.generators.configurations import configuration
from celosia.generators.formats.ports import interfaces_of
from celosia.synth.depth import deepest_paths
from celosia.synth.families import PARTS
from celosia.synth.floorplan import floorplan, placement_commands
from celosia.synth.pins import few_pins
from celosia.synth.results import compare, save


def cell(kind, inputs, output, **parameters):
    """A cell with inputs I0, I1, ... and one output; a register's clock is net 1."""
    register = kind.startswith("FD")
    out = "Q" if register else "O"
    ports = {("D" if register else f"I{i}"): [bit] for i, bit in enumerate(inputs)} | ({"C": [1]} if register else {})
    return {"type": kind, "parameters": parameters, "connections": {**ports, out: [output]},
            "port_directions": {**dict.fromkeys(ports, "input"), out: "output"}}


def netlist(cells):
    names = {f"net_{bit}": {"bits": [bit]} for bit in range(2, 12)} | {"clk": {"bits": [1]}}
    return {"modules": {"top": {"cells": cells, "netnames": names}}}


def test_depth_counts_the_luts_of_the_longest_way():
    found = deepest_paths(netlist({
        "a": cell("FDRE", [9], 2), "b": cell("LUT2", [2, 2], 3), "c": cell("MUXF7", [3, 2], 4),
        "d": cell("LUT6", [4, 2], 5), "e": cell("FDRE", [5], 6), "f": cell("LUT1", [6], 7), "g": cell("FDRE", [7], 8),
    }), "top", count=2)
    assert [(path.clock, path.start, path.luts, path.end) for path in found] == [
        ("clk", "net_2", 2, "net_6"), ("clk", "net_6", 1, "net_8")]
    assert [kind for kind, _net in found[0].cells] == ["LUT2", "MUXF7", "LUT6"]


@pytest.mark.parametrize(("parameters", "luts"), [({"MREG": "0"}, 2), ({"MREG": "1"}, 1)])
def test_depth_ends_at_a_multiplier_with_a_register(parameters, luts):
    found = deepest_paths(netlist({
        "a": cell("FDRE", [9], 2), "b": cell("LUT2", [2, 2], 3), "c": cell("DSP48E2", [3], 4, **parameters),
        "d": cell("LUT2", [4, 4], 5), "e": cell("FDRE", [5], 6)}), "top")
    assert max(path.luts for path in found) == luts


def test_every_port_is_behind_the_pins():
    config = configuration("tiny")
    text = few_pins(config)
    names = [port.name for interface in interfaces_of(config) for port in interface.ports]
    assert re.findall(r"\.(\w+)\(", text) == names


def test_what_got_worse_is_said(tmp_path):
    before = {"config": "small", "part": "LFE5U-85F", "mhz": 100.0, "luts": 1000, "lut_levels": 8}
    assert compare([before], [before]) == []
    assert compare([before], [{**before, "mhz": 97.0, "luts": 1010}]) == []  # placement is a matter of chance
    assert compare([before], [{**before, "mhz": 90.0, "lut_levels": 9}]) == [
        "small on LFE5U-85F: mhz was 100, is 90", "small on LFE5U-85F: lut_levels was 8, is 9"]
    assert compare([before], [{**before, "part": "gowin", "luts": 9000}]) == []
    path = tmp_path / "synth.json"
    save(path, [before])
    save(path, [{**before, "mhz": 110.0}, {**before, "config": "base"}])
    assert [(entry["config"], entry["mhz"]) for entry in json.loads(path.read_text())] == [
        ("base", 100.0), ("small", 110.0)]


PART = PARTS["LFE5U-85F"]


@pytest.mark.parametrize(("settings", "multipliers", "memories"), [
    ((), 64 + 4 * 4 + 7, 32),
    (("cols=16", "lanes=4", "macs_per_multiplier=2"), 64 + 4 * 4 + 7, 64),
    (("rows=16", "cols=16", "lanes=4", "macs_per_multiplier=2"), 128 + 4 * 4 + 7, 64),
    (("rows=4", "cols=4"), 16 + 4 * 4 + 7, 16),
])
def test_a_floorplan_has_a_place_for_every_multiplier(settings, multipliers, memories):
    places = floorplan(configuration("ulx3s", ["target=ecp5", *settings]), PART)
    assert len(set(places.values())) == len(places)
    assert sum("MULT18" in place for place in places.values()) == multipliers
    assert len(places) - multipliers >= memories // 2


def test_four_multipliers_share_few_enables():
    config = configuration("ulx3s", ["target=ecp5"])
    blocks: dict[tuple[int, str], set[int]] = {}
    for name, place in floorplan(config, PART).items():
        found = re.fullmatch(r"matmul\.array\.rows_(\d+)\.multiplier_0_(\d+)", name)
        if found:
            x, y, _ = place.split("/")
            row, group = map(int, found.groups())
            # The array's swap reaches rows 2i and 2i + 1 by the same registers, one of them a group later.
            blocks.setdefault(((int(x[1:]) - 4) // 9 if int(x[1:]) < 69 else int(x[1:]) // 9, y), set()).add(
                100 * (row // 2) + group + row % 2)
    assert all(len(enables) <= 3 for enables in blocks.values())


def test_what_does_not_fit_is_left_to_the_placer():
    assert floorplan(configuration("base"), PART) == {}
    assert floorplan(configuration("ulx3s"), PARTS["LFE5U-25F"]) == {}
    wide = floorplan(configuration("ulx3s", ["rows=16", "cols=16", "lanes=16", "macs_per_multiplier=2"]), PART)
    assert not any(name.startswith("vector") for name in wide)


def test_places_are_given_by_the_ends_of_names():
    assert placement_commands({"row_0.multiplier_1": "X4/Y58/MULT18_4"}) == [
        'setattr -set BEL "X4/Y58/MULT18_4" c:*row_0.multiplier_1']
