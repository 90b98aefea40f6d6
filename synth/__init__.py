"""FPGA flows and formal proofs."""
