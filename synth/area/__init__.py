"""Gates of the Verilog on an ASIC, without a library of anybody's: how many, where, and how many behind each other."""
