"""The memory bus: AXI4 channels, bursts within the window, and the load and the store engine."""
