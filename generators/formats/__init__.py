"""The forms in which an accelerator is described to hosts and tools."""
