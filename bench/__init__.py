"""Benchmarks: every figure that the README and the pages claim."""
