"""Devices, ranks, threads, signals and collective operations of a run."""
