"""What watches a run: ``callbacks=[...]``."""
