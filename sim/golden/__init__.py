"""Golden kernels: bit-exact NumPy, following `docs/numerics.md`."""
