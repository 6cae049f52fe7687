"""The run folder: its format, owner, model card, results and curves."""
