"""Registers, and the sequencer: fetch, decode, queues, semaphores, counters."""
