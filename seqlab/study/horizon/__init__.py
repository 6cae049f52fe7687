"""The horizon search: the largest distance at which a model can still be trained to solve a task."""
