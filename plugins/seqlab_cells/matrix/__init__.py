"""Cells whose state is a matrix."""
