"""Recurrent cells, each with its kernels, and conversion from and to ``torch.nn``."""
