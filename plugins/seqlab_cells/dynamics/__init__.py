"""Cells whose step discretises a differential equation, or updates units at different rates."""
