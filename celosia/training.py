"""Runs a layer on a simulation that counts how often each of its branches is taken.

``python -m celosia.training CONFIGURATION LIBRARY``, the configuration as TOML text, is what
:func:`~celosia.session.simulate` starts for a profile-guided compilation, in a process of its own: the counts are
written when it ends.
"""

import sys
from pathlib import Path

import numpy as np
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.driver.transport import SimulatedTransport
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.sim.model import Simulation

__all__ = ["main"]

#: A layer of a real model's proportions, small enough for a few seconds: its hidden and FFN widths, and tokens.
_HIDDEN, _FFN, _TOKENS = 256, 1024, 48
_HEAD = 32


def main(arguments: list[str]) -> None:
    """Run the layer. ``arguments`` are the configuration and the library."""
    config, library = arguments
    simulation = Simulation(Path(library), np.zeros(64 << 20, np.uint8))
    hardware = AcceleratorConfig.from_toml(config)
    hidden, ffn = (min(width, hardware.max_n, hardware.max_k) for width in (_HIDDEN, _FFN))
    accelerator = Accelerator(SimulatedTransport(simulation), hardware)
    accelerator.load(random_encoder(hidden, ffn, hidden // _HEAD))
    accelerator.run([random_tokens(np.random.default_rng(1), min(_TOKENS, hardware.max_tokens), hidden)])


if __name__ == "__main__":
    main(sys.argv[1:])
