"""``torch.nn.LSTM``, ``GRU`` and ``RNN`` on seqlab's kernels: the same arguments, parameters, results and state dicts.

Needs torch alone: neither Lightning nor Hydra is imported.
"""

from seqlab.nn.modules import GRU, LSTM, RNN
from seqlab.nn.replacement import Replacement, replace

__all__ = ["GRU", "LSTM", "RNN", "Replacement", "replace"]
