"""The config: composed by Hydra, checked, and turned into a task, a preprocessor and a model."""
