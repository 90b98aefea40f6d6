"""What holds for every test."""

import os
from pathlib import Path

import platformdirs
from hypothesis import HealthCheck, settings

# Before NumPy is imported: two threads of OpenBLAS in each of two workers fight over two cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What tools print depends neither on the terminal nor on the language of who tests.
os.environ |= {"COLUMNS": "120", "LC_ALL": "C.UTF-8"}
for _name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
    os.environ.pop(_name, None)
# Compilers and Celosia keep what they made; where there is no home for it, it stays here.
_cache = platformdirs.user_cache_path("celosia")
try:
    _cache.mkdir(parents=True, exist_ok=True)
    _writable = os.access(_cache, os.W_OK)
except OSError:
    _writable = False
if not _writable:
    os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent / "build" / "cache")

# On a busy machine an example may take any time.
settings.register_profile("celosia", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("celosia")

pytest_plugins = ["tests.suite.regress"]
