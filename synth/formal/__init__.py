"""Properties of the memory bus, proved by Yosys and z3, and sums of products, proved by algebra: ``make formal``."""
