"""What the compiler knows of the machine: instructions, accesses, order, cycles, shapes, the DRAM image."""
