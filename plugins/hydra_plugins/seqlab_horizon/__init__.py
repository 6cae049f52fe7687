"""The horizon search as a sweeper; the module is imported when it is chosen."""
