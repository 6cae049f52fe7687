"""The config: composed by Hydra, checked, and built into a task, a preprocessor and a model."""
