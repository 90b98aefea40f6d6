"""How long it takes to generate the Verilog, how large it is, and how both grow with the array."""

import json
import subprocess
import sys

from .results import Result

__all__ = ["measure_generation"]

#: Each in a process of its own, whose memory is its own.
_PROGRAM = """
import json, resource, sys, time
from celosia.generators.configurations import configuration
from celosia.generators.verilog import to_verilog
config = configuration("base", [f"rows={sys.argv[1]}", f"cols={sys.argv[1]}"])
start = time.perf_counter()
size = len(to_verilog(config))
seconds = time.perf_counter() - start
kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "megabytes": size / 1e6, "peak_megabytes": kib * 1024 / 1e6}))
"""

#: Upper bounds, by rows and columns.
_BOUNDS = {16: {"seconds": 10, "megabytes": 2}, 64: {"seconds": 60, "megabytes": 10, "peak_megabytes": 600}}


def measure_generation() -> list[Result]:
    """``base`` with square arrays of 4 to 64 rows; ``peak_megabytes`` is the larger of Python's and Yosys' process."""
    results = []
    for size in (4, 8, 16, 32, 64):
        done = subprocess.run([sys.executable, "-c", _PROGRAM, str(size)], check=True, capture_output=True, text=True)
        for name, value in json.loads(done.stdout).items():
            if name == "peak_megabytes" and size < 64:
                continue  # less than the process that started it had
            results.append(Result(f"generate_{name}", "base", f"{size} x {size}", round(value, 2), name,
                                  _BOUNDS.get(size, {}).get(name), at_most=True))
    return results
