"""Built-in models: the recurrent model for any cell, and baselines."""
