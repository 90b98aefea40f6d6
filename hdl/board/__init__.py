"""What a board without a host bus needs: on-chip memory and a serial bridge."""
