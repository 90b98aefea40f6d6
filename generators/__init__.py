"""Configuration to Verilog, C header and documents; the named configurations."""
