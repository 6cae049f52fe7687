"""Text whose tokens are their positions."""

import torch


class Numbers:
    """File of the tokens 2, 3, 4, ..., so that a batch shows where it comes from."""

    def __init__(self, count):
        self.ids = torch.arange(2, count + 2).numpy()

    def __len__(self):
        return len(self.ids)

    def read(self, start, count):
        assert start >= 0
        return self.ids[start : start + max(count, 0)]
