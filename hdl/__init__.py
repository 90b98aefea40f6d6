"""Synthesizable Amaranth components, the configuration, the instruction set and the register map."""
