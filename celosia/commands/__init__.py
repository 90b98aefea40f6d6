"""The command line: a command a file, and what the commands share."""
