"""A text whose tokens say where they stand."""

import torch


class Numbers:
    """Stands for a file of the tokens 2, 3, 4, ...: what a batch holds says where it comes from."""

    def __init__(self, count):
        self.ids = torch.arange(2, count + 2).numpy()

    def __len__(self):
        return len(self.ids)

    def read(self, start, count):
        assert start >= 0
        return self.ids[start : start + max(count, 0)]
