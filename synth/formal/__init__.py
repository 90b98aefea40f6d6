"""Properties of the memory bus, and their proofs by Yosys and z3: ``make formal``."""
