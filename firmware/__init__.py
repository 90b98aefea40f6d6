"""Compiler and host driver."""
