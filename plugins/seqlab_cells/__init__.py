"""Cells, each with its kernels beside it, and the conversion of the classic three from and to ``torch.nn``."""
