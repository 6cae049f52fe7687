"""The three classic cells, each with its kernels beside it, and their conversion from and to ``torch.nn``."""
