"""Cells that are linear in the state, with a diagonal transition."""
