"""Which plugins there are, and how the config reaches them."""

from seqlab.discovery.registry import GROUPS, KINDS, Plugin, find, plugins

__all__ = ["GROUPS", "KINDS", "Plugin", "find", "plugins"]
