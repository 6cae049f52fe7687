"""Plugins: their registry, their config nodes and Hydra sources, diagnosis of their errors."""

from seqlab.plugins.registry import GROUPS, KINDS, Plugin, find, plugins

__all__ = ["GROUPS", "KINDS", "Plugin", "find", "plugins"]
