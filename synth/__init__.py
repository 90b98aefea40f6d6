"""FPGA flows, gates of an ASIC, and formal proofs."""
