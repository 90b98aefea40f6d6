"""The systolic array and the engine that feeds it."""
