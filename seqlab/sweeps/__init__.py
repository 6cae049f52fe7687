"""Sweeps: what their runs are called, what became of each, and how to go on."""
