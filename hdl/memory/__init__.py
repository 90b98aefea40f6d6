"""Scratchpad and accumulators, and the interfaces that engines reach them by."""
