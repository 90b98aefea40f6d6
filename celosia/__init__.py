"""Celosia: integer-only Transformer encoder accelerators, generated, verified and run from Python."""
