"""What a newcomer waits for: a clone in an empty folder with an empty cache, `make run`, and `make run` again."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from .results import Result

__all__ = ["measure_fresh_clone"]


def measure_fresh_clone() -> list[Result]:
    """Seconds of the first and of the second ``make run`` in a fresh clone of this repository's HEAD."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="celosia-fresh-") as folder:
        clone = Path(folder) / "celosia"
        subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
        environment = {**os.environ, "CELOSIA_CACHE": str(Path(folder) / "cache"), "PIP_NO_CACHE_DIR": "1"}
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(["make", "run"], cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    return [
        Result("make_run_fresh_clone", "base", "clone, empty cache: install, build, run", seconds[0], "s", 360, True),
        Result("make_run_again", "base", "all built before", seconds[1], "s", 30, True),
    ]
