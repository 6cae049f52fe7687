"""The task: the rows or pixels of an image in, its class out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from seqlab import Examples, Ragged
from seqlab_tasks.classification import Balance, Classification
from seqlab_tasks.pixels.images import Dealt, Images, deal
from seqlab_tasks.pixels.sources import arrays, digits, folder
from seqlab_tasks.textclf.documents import SPLITS

Order = Literal["rows", "pixels"]


@final
class Pixels(Classification):
    r"""Tell the class of an image that is read row by row, or pixel by pixel.

    .. math:: \text{rows: } x_t = P_{t, 1 … w} ∈ [0, 1]^w, \; t ≤ h \qquad
              \text{pixels: } x_t = P_{⌈t / w⌉, \, 1 + (t - 1) \bmod w} ∈ [0, 1], \; t ≤ h w

    Pixel by pixel, in an order that may be shuffled once for all images, is the task of Le, Jaitly & Hinton 2015 ("A
    simple way to initialize recurrent networks of rectified linear units", section 4.3, arXiv 1504.00941; there MNIST's
    784 pixels); Arjovsky, Shah & Bengio 2016 take it up. What tells the class is spread over the image, so that the
    number of steps is the distance over which its first part has to be kept. The best score there can be is not known.

    Each image is kept once. Without splits of their own images are dealt out 80 : 10 : 10 by class; where the source
    gives splits, what test (or valid) has is taken out of train. Colour becomes grey.

    Args:
        order: ``rows``, so many steps as an image is high, or ``pixels``, so many as it has.
        permute: whether the pixels are shuffled, all images alike.
        permutation_seed: of the shuffling.
        data: a file of ``numpy.savez`` with ``images`` and ``labels``, or with ``x_train``, ``y_train``, ``x_test``,
            ``y_test`` (as Keras has MNIST), and perhaps ``x_valid``, ``y_valid``.
        data_dir: a folder that holds a folder of images for each class, or ``train`` and ``test`` (and perhaps
            ``valid``) that do. Neither of the two: the 1,797 digits of 8 x 8 pixels of scikit-learn.
        split_seed: another one deals images out anew; ``seed`` does not.
        sequence_length: steps that are read of an image, at most; null reads all.
        balance: what is done about classes of unequal size: ``none``, ``weights`` in the loss, or ``sampling`` rare
            ones more often.
        balance_power: how much: weights are the count to the power of minus this; 1 makes all classes equal.
        label_smoothing: share of the target that is spread over all classes.

    Raises:
        ValueError: an option is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        order: Order = "rows",
        permute: bool = False,
        permutation_seed: int = 0,
        data: str | None = None,
        data_dir: str | None = None,
        split_seed: int = 0,
        sequence_length: int | None = None,
        balance: Balance = "none",
        balance_power: float = 0.8,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(sequence_length, balance, balance_power, label_smoothing)
        if order not in ("rows", "pixels"):
            raise ValueError(f"order is {order!r}; it must be one of rows, pixels")
        if permute and order == "rows":
            raise ValueError("permute is true, but order is rows; what is shuffled are the pixels: set order=pixels")
        if permutation_seed < 0:
            raise ValueError(f"permutation_seed is {permutation_seed}; it must be at least 0")
        if data == "" or data_dir == "":
            raise ValueError(f"{'data' if data == '' else 'data_dir'} is empty; it must name something, or be null")
        if data is not None and data_dir is not None:
            raise ValueError(f"data={data} and data_dir={data_dir} are both set; leave one of them out")
        self.order, self.permute, self.permutation_seed = order, permute, permutation_seed
        self.data, self.data_dir, self.split_seed = data, data_dir, split_seed

    def splits(self) -> Mapping[str, Examples]:
        """Read and split the images.

        Raises:
            ValueError: the images cannot be had, or a class has too few; the message says what to do.
            UserError: a package that reads them is not installed.
        """
        where = self._where()
        found = deal(self._read(where), where, self.split_seed)
        made = {split: self._sequences(found, split) for split in SPLITS}
        self.learn_classes(found.classes, made["train"].targets)
        self.notes = found.notes
        return made

    def _where(self) -> str:
        if self.data is not None:
            return f"task.data={self.data}"
        return "task=pixels" if self.data_dir is None else f"task.data_dir={self.data_dir}"

    def _read(self, where: str) -> Images:
        if self.data is not None:
            return arrays(Path(self.data).expanduser(), where)
        return digits() if self.data_dir is None else folder(Path(self.data_dir).expanduser(), where)

    def _sequences(self, found: Dealt, split: str) -> Examples:
        images = torch.from_numpy(found.pixels[found.rows[split]])
        count, height, width = images.shape
        if self.order == "rows":
            steps = images.reshape(count * height, width)
        else:
            steps = images.reshape(count, height * width)[:, self.permutation(height * width)].reshape(-1, 1)
        lengths = torch.full((count,), len(steps) // count)
        return Examples(Ragged(steps, lengths), torch.tensor(found.targets[split]))

    def permutation(self, pixels: int) -> Tensor:
        """Give the order in which so many pixels are read, ``[pixels]``."""
        if not self.permute:
            return torch.arange(pixels)
        return torch.randperm(pixels, generator=torch.Generator().manual_seed(self.permutation_seed))
