"""Bitstreams for boards, with tools that pip installs."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from amaranth import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from celosia.hdl.board.axi_memory import MEMORY_GRANULE
from celosia.hdl.board.serial_line import DEFAULT_BAUD, MIN_DIVISOR
from celosia.hdl.board.system import System
from celosia.hdl.config import AcceleratorConfig
from celosia.sim.processes import run

from .families import FAMILIES, PARTS
from .floorplan import floorplan, placement_commands
from .routing import ROUTING
from .tools import SynthesisError, find_tool

__all__ = ["BOARDS", "BoardBuild", "BoardError", "BoardOptions", "Pll", "Ulx3s", "build_board"]

#: Boards that there is a bitstream for.
BOARDS = ("ulx3s",)

_NAME = "celosia"
_PART = "LFE5U-85F"
#: The variables from which Amaranth takes the names of its tools, and those that pip installs.
_TOOLS = {"YOSYS": "yosys", "NEXTPNR_ECP5": "nextpnr-ecp5", "ECPPACK": "ecppack"}
#: Amaranth calls element 2 of an array ``sums[2]``, as Yosys calls bit 2 of a signal, and ABC then takes one for the
#: other: hidden names are made new. (In the Verilog, ``generators/tidy.py`` sees to it.)
_HIDE_ALIASES = "rename -hide */w:*[[]*"
#: Longer than any pause that a host makes inside a frame while its USB is busy.
_IDLE_SECONDS = 0.02


class BoardError(ValueError):
    """A board or an option that there is not. The message names value and rule."""


@dataclass(frozen=True)
class Pll:
    """Dividers of an ECP5 phase-locked loop: ``input / reference * feedback`` is the output's frequency, and
    ``output`` times that is the oscillator's, near the middle of its range of 400 to 800 MHz."""

    reference: int
    feedback: int
    output: int

    @classmethod
    def of(cls, input_mhz: int, output_mhz: int) -> "Pll":
        """The dividers that make ``output_mhz`` exactly; raises :class:`BoardError` when there are none."""
        for reference in range(1, input_mhz * 8 // 25 + 1):  # the phase detector takes 3.125 MHz or more
            feedback, rest = divmod(output_mhz * reference, input_mhz)
            if rest == 0 and 10 <= output_mhz <= 200:
                return cls(reference, feedback, round(600 / output_mhz))
        raise BoardError(f"clock_mhz must be a multiple of 5 from 10 to 200, not {output_mhz}")


@dataclass(frozen=True)
class BoardOptions:
    """What can be chosen about a board.

    Parameters
    ----------
    clock_mhz : int
        Clock of everything.
    baud : int
        Bits a second of the serial line; the clock must divide down to it within 1 %.
    memory_kib : int
        Size of the on-chip memory that is the accelerator's DRAM.
    seed : int
        Seed of the placement.

    Raises
    ------
    BoardError
        When an option breaks its rule.
    """

    clock_mhz: int = 50
    baud: int = DEFAULT_BAUD
    memory_kib: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        Pll.of(25, self.clock_mhz)
        clock = 1_000_000 * self.clock_mhz
        if self.baud < 300 or self.divisor < MIN_DIVISOR or abs(clock / self.divisor / self.baud - 1) > 0.01:
            raise BoardError(f"baud must be at least 300, and within 1 % of {self.clock_mhz} MHz divided by a whole "
                             f"number of at least {MIN_DIVISOR}, not {self.baud}")
        granule = MEMORY_GRANULE // 1024
        if self.memory_kib < granule or self.memory_kib % granule:
            raise BoardError(f"memory_kib must be a multiple of {granule}, not {self.memory_kib}")

    @property
    def divisor(self) -> int:
        """Cycles of a bit on the serial line."""
        return round(1_000_000 * self.clock_mhz / self.baud)


class Ulx3s(Elaboratable):
    """The top of a ULX3S: clock from a phase-locked loop, reset from button B1 and until the loop has locked, the
    USB serial port, and LEDs: 0 runs, 1 a request is being carried out, 2 a program has ended or failed, 3 the
    last request was refused."""

    def __init__(self, config: AcceleratorConfig, options: BoardOptions):
        self._options = options
        self._system = System(config, memory_bytes=1024 * options.memory_kib, divisor=options.divisor,
                              idle_cycles=round(_IDLE_SECONDS * 1_000_000 * options.clock_mhz))

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self._system

        def pin(direction: str, name: str, number: int = 0, part: str = "") -> Signal:
            port = ports[name] if name in ports else platform.request(name, number, dir="-")
            if part:
                ports[name] = port
                port = getattr(port, part)
            buffer = io.Buffer(direction, port)
            m.submodules[f"{name}_{part or number}"] = buffer
            return buffer.i if direction == "i" else buffer.o

        ports: dict[str, Any] = {}
        locked = Signal()
        clock = pin("i", "clk25")
        self._clock(m, clock, locked)
        m.submodules.reset = ResetSynchronizer(~locked | pin("i", "button_fire"))
        m.d.comb += [
            system.rx.eq(pin("i", "uart", part="rx")),
            pin("o", "uart", part="tx").eq(system.tx),
            pin("o", "stay_on").eq(1),
        ]
        for number, light in enumerate((~ResetSignal(), system.active, system.ended, system.refused)):
            m.d.comb += pin("o", "led", number).eq(light)
        return m

    def _clock(self, m: Module, clock: Any, locked: Signal) -> None:
        """The domain ``sync``, from ``clock`` of 25 MHz."""
        m.domains.sync = ClockDomain()
        mhz = self._options.clock_mhz
        pll = Pll.of(25, mhz)
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI="25", a_FREQUENCY_PIN_CLKOP=str(mhz), a_ICP_CURRENT="12", a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=pll.reference, p_CLKFB_DIV=pll.feedback, p_CLKOP_DIV=pll.output, p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=max(0, pll.output // 2 - 1), p_CLKOP_FPHASE=0, p_FEEDBK_PATH="CLKOP",
            i_CLKI=clock, i_CLKFB=ClockSignal(), i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1,
            i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=ClockSignal(), o_LOCK=locked,
        )


@dataclass(frozen=True)
class BoardBuild:
    """What a build gave.

    ``fmax``: for each clock, the frequency in MHz that was reached, and the one that it needs.
    ``used``: cells of each kind, and how many the device has. ``files``: the bitstream and an SVF file of it;
    none when a clock is too slow.
    """

    fmax: dict[str, tuple[float, float]]
    used: dict[str, tuple[int, int]]
    files: list[Path]

    @property
    def met(self) -> bool:
        """Every clock is as fast as it needs to be."""
        return all(reached >= needed for reached, needed in self.fmax.values())


def _tool_environment() -> dict[str, str]:
    """The environment in which Amaranth's script finds the tools; what the user has set stays."""
    environment = dict(os.environ)
    for variable, name in _TOOLS.items():
        found = environment.get(variable) or find_tool(name)
        if shutil.which(found) is None:
            raise SynthesisError(f"{found} must be installed, or {variable} name another tool")
        environment[variable] = found
    return environment


def _platform(target: str) -> Any:
    """A ULX3S with an LFE5U-85F; its memories are mapped for ``target``."""
    try:
        module = import_module("amaranth_boards.ulx3s")
    except ImportError as error:
        raise SynthesisError("amaranth-boards must be installed: pip install 'celosia[synth]'") from error
    from amaranth.build import Attrs, Pins, Resource

    platform = module.ULX3S_85F_Platform()
    platform.target = target
    # The ESP32 on the board restarts the FPGA while this pin is low.
    platform.add_resources([Resource("stay_on", 0, Pins("L2", dir="o"), Attrs(IO_TYPE="LVCMOS33"))])
    return platform


def build_board(
    board: str,
    config: AcceleratorConfig,
    output: Path,
    options: BoardOptions | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> BoardBuild:
    """Build a bitstream; it takes many minutes.

    Parameters
    ----------
    board
        One of :data:`BOARDS`.
    config
        The accelerator; its ``target`` becomes that of the board.
    output
        Folder, made if it is not there: ``celosia.bit``, ``celosia.svf`` and ``timing.json``, and what the
        tools wrote in ``build/``. Bitstreams of an earlier build in it are removed first.
    on_stage
        Told in a few words what is being done.

    Raises
    ------
    BoardError
        When there is no such board.
    SynthesisError
        When a tool is missing or fails: the design does not fit, for example.
    """
    if board not in BOARDS:
        raise BoardError(f"board must be one of {', '.join(BOARDS)}, not {board!r}")
    options = options or BoardOptions()
    tell = on_stage or (lambda stage: None)
    config = config.with_target("ecp5")
    environment, platform = _tool_environment(), _platform(config.target)
    folder = output / "build"
    folder.mkdir(parents=True, exist_ok=True)
    targets = [output / f"{_NAME}.{kind}" for kind in ("bit", "svf")]
    for path in [*targets, *folder.glob(f"{_NAME}.*"), folder / "timing.json"]:
        path.unlink(missing_ok=True)

    tell("generating")
    # The report says whether timing is met, so that a run that misses it ends like one that does not.
    plan = platform.prepare(
        Ulx3s(config, options), _NAME,
        script_after_read=_HIDE_ALIASES,
        script_after_synth="\n".join(placement_commands(floorplan(config, PARTS[_PART]))),
        synth_opts=FAMILIES[PARTS[_PART].family].synthesis.split()[1:],
        nextpnr_opts=[*ROUTING, "--timing-allow-fail", "--report", "timing.json", "--seed", str(options.seed)])
    plan.extract(folder)
    tell("synthesising, placing and routing (many minutes)")
    log = folder / "build.log"
    with log.open("w") as file:
        done = run(["sh", f"{plan.script}.sh"], cwd=folder, env=environment, output=file)
    if done.returncode:
        raise SynthesisError(f"the bitstream can't be built, see {log}:\n{log.read_text(errors='replace')[-2000:]}")
    report = json.loads((folder / "timing.json").read_text())
    shutil.copyfile(folder / "timing.json", output / "timing.json")
    build = BoardBuild(
        {name: (clock["achieved"], clock["constraint"]) for name, clock in report["fmax"].items()},
        {name: (cells["used"], cells["available"]) for name, cells in report["utilization"].items() if cells["used"]},
        targets)
    if not build.met:
        return BoardBuild(build.fmax, build.used, [])
    for path in targets:
        shutil.copyfile(folder / path.name, path)
    return build
