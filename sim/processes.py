"""Programs that are ended, with all that they started, when whoever started them is stopped."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["Stopped", "run", "stoppable"]

_SECONDS_TO_END = 5


class Stopped(BaseException):
    """A signal has asked this process to end; ``code`` is the exit code with which shells know that."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        self.code = 128 + number


@contextmanager
def stoppable(*, interrupts: bool = False) -> Iterator[None]:
    """In this block the first signal that would end the process raises :class:`Stopped` instead, so that what is half
    done is cleaned up; then, unless the block has caught it, the process ends by the signal.

    SIGTERM and SIGHUP are meant, where nobody handles or ignores them, and with ``interrupts`` SIGINT, where it would
    raise KeyboardInterrupt. In another thread than the main one, which gets no signals, nothing changes.
    """
    defaults = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    if interrupts:
        defaults[signal.SIGINT] = signal.default_int_handler  # type: ignore[assignment]
    stopped = False

    def stop(number: int, _frame: Any) -> None:
        nonlocal stopped
        if not stopped:  # a second one must not end the cleaning up
            stopped = True
            raise Stopped(number)

    here = threading.current_thread() is threading.main_thread()
    taken = [number for number, default in defaults.items() if here and signal.getsignal(number) is default]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    except Stopped as stop_request:
        if stop_request.number in taken:
            signal.signal(stop_request.number, defaults[signal.Signals(stop_request.number)])
            signal.raise_signal(stop_request.number)
        raise
    finally:
        for number in taken:
            signal.signal(number, defaults[number])


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None,
    output: IO[Any] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it prints, on both streams, is the result's ``stdout``, or goes to ``output``.

    An exception meanwhile (KeyboardInterrupt, :class:`Stopped`) ends the program and everything that it has started.
    """
    words = [str(word) for word in command]
    with subprocess.Popen(
            words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", process_group=0) as process:
        try:
            text, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    return subprocess.CompletedProcess(words, process.returncode, text or "")


def _end(process: subprocess.Popen[str]) -> None:
    """End the group of ``process``: first so that compilers remove their temporary files, then in any case."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_SECONDS_TO_END)  # until the last of the group has closed its output
