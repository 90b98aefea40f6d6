"""From a configuration to an accelerator that runs, and from a model to its integers; both kept once made."""

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import celosia.hdl
import numpy as np
from celosia.firmware.driver.connections import transport_from_text
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.driver.transport import SimulatedTransport
from celosia.firmware.model.model import EncoderModel
from celosia.firmware.model.sentences import calibration_sentences
from celosia.firmware.quantise.store import load_or_quantise
from celosia.generators.configurations import configuration
from celosia.generators.observer import OBSERVER, observer
from celosia.generators.verilog import TOP, simulation_models, to_verilog
from celosia.hdl.config import AcceleratorConfig
from celosia.sim.build import Waves, compile_model
from celosia.sim.cache import cache_root, cached_folder, content_key
from celosia.sim.golden.parameters import QuantisedEncoder
from celosia.sim.model import MemoryTiming, Simulation

__all__ = ["cached_verilog", "connect", "quantise", "simulate"]

#: Simulated DRAM; the pages that nothing touches cost nothing.
_MEMORY_BYTES = 1 << 29


def cached_verilog(config: AcceleratorConfig, *, rolled_array: bool = False) -> str:
    """The Verilog of ``config``, generated or found as it was generated before from the same sources;
    ``rolled_array`` as for :func:`~celosia.generators.verilog.to_verilog`.

    Raises
    ------
    CacheError
        When the cache can't be written.
    """
    folders = [Path(celosia.hdl.__file__).parent, Path(celosia.generators.verilog.__file__).parent]
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.py"))]
    key = content_key(config.to_toml(), str(rolled_array), version("amaranth"), *sources)

    def make(folder: Path) -> list[str]:
        (folder / f"{TOP}.v").write_text(to_verilog(config, rolled_array=rolled_array), encoding="utf-8")
        return [f"{TOP}.v"]

    return (cached_folder("verilog", key, make) / f"{TOP}.v").read_text(encoding="utf-8")


def simulate(
    config: AcceleratorConfig | str,
    *,
    timing: MemoryTiming | None = None,
    compiler: str | None = None,
    waves: Waves = None,
    observed: bool = False,
    rolled_array: bool = False,
    profile_guided: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> Accelerator:
    """An accelerator whose RTL is simulated by Verilator; the first time for a configuration it is compiled.

    Parameters
    ----------
    config
        A configuration, or the name of one.
    timing
        How the memory behaves; 40 cycles to the first beat, then a beat a cycle, unless given.
    compiler
        C++ compiler; ``g++`` unless given here or in ``CELOSIA_CXX``.
    waves
        Which waves ``accelerator.transport.simulation.start_waves(path)`` can record.
    observed
        Whether a :class:`~celosia.timeline.Timeline` can be made of what runs; it costs some speed.
    rolled_array
        Take :mod:`~celosia.hdl.matmul.rolled_array` for the systolic array: equal in every cycle, and faster.
    profile_guided
        Compile twice, the second time for what the first did with a layer: it takes longer, and runs faster.
    on_stage
        Told in a few words what is being made, when something is.

    Raises
    ------
    ConfigError, ToolError, CacheError
        When there is no such configuration, no tool to compile it, or no room to keep it.
    """
    if isinstance(config, str):
        config = configuration(config)
    if on_stage is not None:
        on_stage("generating Verilog")
    verilog = cached_verilog(config, rolled_array=rolled_array) + simulation_models(config.target)
    top = TOP
    if observed:
        verilog, top = verilog + observer(config), OBSERVER
    train = [sys.executable, "-m", "celosia.training", config.to_toml()] if profile_guided else None
    library = compile_model(verilog, top=top, compiler=compiler, waves=waves, train=train, on_stage=on_stage)
    simulation = Simulation(library, np.zeros(_MEMORY_BYTES, np.uint8), timing=timing)
    return Accelerator(SimulatedTransport(simulation), config)


def connect(transport: str, config: AcceleratorConfig | str) -> Accelerator:
    """An accelerator on a board.

    Parameters
    ----------
    transport
        The way to it, as :func:`~celosia.firmware.driver.connections.transport_from_text` takes it.
    config
        The configuration that the board was built with, or the name of one.

    Raises
    ------
    ConfigError
        When there is no such configuration.
    TransportError
        When there is no such way.
    HardwareMismatchError
        When the board has another configuration.
    """
    if isinstance(config, str):
        config = configuration(config)
    return Accelerator(transport_from_text(transport), config)


def quantise(model: EncoderModel, *, gptq: bool = True, calibration: Sequence[str] | None = None,
             progress: Callable[[float], None] | None = None) -> QuantisedEncoder:
    """The integers of ``model``; kept in the user's cache.

    Parameters
    ----------
    gptq
        Round the weights by GPTQ; each to nearest otherwise.
    calibration
        Texts as the model will see them, some hundred or more, of any length; the English sentences that come with
        Celosia unless given.
    progress
        Called with the share that is done, from 0 to 1; not at all when the integers are in the cache.

    Raises
    ------
    ModelError
        When the model can't be quantised, a text can't be taken, or the cache can't be written.
    """
    texts = calibration_sentences() if calibration is None else calibration
    return load_or_quantise(model, texts, cache_root() / "quantised", gptq=gptq, progress=progress)
