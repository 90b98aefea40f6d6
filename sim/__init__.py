"""Golden kernels, the Verilated model and its memory."""
