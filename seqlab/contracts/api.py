"""The version of what plugins are written for."""

PLUGIN_API = 1
"""Rises when a plugin that was right is so no more; a class may say ``plugin_api = 1`` for what it was written for."""
