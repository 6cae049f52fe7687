"""Callbacks: ``callbacks=[...]``."""
