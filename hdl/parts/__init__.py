"""What every room builds with: queues, delay lines, memories, resets, modules that are written once."""
