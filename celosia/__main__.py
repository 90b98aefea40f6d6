"""The command ``celosia``. Exit codes: 0 done, 1 a check failed, 2 bad input or a missing tool; 128 + n when signal n
ended it."""

import os

# Two threads of OpenBLAS are slower than one where the cores are shared, many times so under a busy compiler.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from io import TextIOWrapper

import typer
from celosia.commands.build import build
from celosia.commands.configs import configs
from celosia.commands.explain import explain
from celosia.commands.generate import generate
from celosia.commands.listing import listing
from celosia.commands.report import report
from celosia.commands.run import run
from celosia.commands.shared import BAD_INPUT, err
from celosia.sim.processes import Stopped, stoppable

__all__ = ["app", "main"]

app = typer.Typer(help="Integer-only Transformer encoder accelerators: generate them, run models on them.",
                  no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (run, report, generate, build, configs, listing, explain):
    app.command()(command)


def main() -> None:
    """Entry point of the ``celosia`` command."""
    # What a terminal can't show is no reason to stop.
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)
    with stoppable(interrupts=True):
        try:
            app(prog_name="celosia")
        except Stopped as stop:
            _complain(stop)
            sys.exit(stop.code)
        except BAD_INPUT as error:
            _complain(error)
            sys.exit(2)


def _complain(error: BaseException) -> None:
    err.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
