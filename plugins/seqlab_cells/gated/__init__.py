"""Cells with gates on a vector state."""
