"""The host: loads and runs programs over a transport."""
