"""Which plugins there are, and how the config reaches them."""

from seqlab.plugins.registry import GROUPS, KINDS, Plugin, find, plugins

__all__ = ["GROUPS", "KINDS", "Plugin", "find", "plugins"]
