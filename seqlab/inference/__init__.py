"""Trained models: loading from a run folder, and generation of text."""
