"""What holds for every test."""

import os

# Before NumPy is imported: two threads of OpenBLAS in each of two workers fight over two cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
