"""Classification of images read row by row or pixel by pixel."""

import hashlib
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab import Examples, Ragged, UserError
from seqlab.errors import check_choice, check_range
from seqlab.io.safe_io import check_archive
from seqlab.io.tables import class_folders
from seqlab_tasks.classification import Balance, Classification, check_paths, user_folder
from seqlab_tasks.splitting import SPLITS, Arranged, Documents, arrange

Order = Literal["rows", "pixels"]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of Pillow with 8 bits per channel, converted to grey by the luma of ITU-R 601."""
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""Formats of :data:`ENDINGS`. By default Pillow detects the format from the content, and passes PostScript to
Ghostscript."""
_MAX_PIXELS = 2**24
_LUMA = np.array([0.299, 0.587, 0.114])


@final
class Pixels(Classification):
    r"""Classify images that are read row by row or pixel by pixel.

    .. math:: \text{rows: } x_t = P_{t, 1 … w} ∈ [0, 1]^w, \; t ≤ h \qquad
              \text{pixels: } x_t = P_{⌈t / w⌉, \, 1 + (t - 1) \bmod w} ∈ [0, 1], \; t ≤ h w

    Pixel by pixel, optionally in one random order for all images: the task of Le, Jaitly & Hinton 2015 ("A simple way
    to initialize recurrent networks of rectified linear units", section 4.3, arXiv 1504.00941; there the 784 pixels of
    MNIST), also used by Arjovsky, Shah & Bengio 2016. The class depends on the whole image: the number of steps is the
    distance over which its first part must be remembered. The best possible score is unknown.

    Each image is kept once. Images without given splits are split 80 : 10 : 10 by class; with given splits, images
    that occur in test (or valid) are removed from train. Colour is converted to grey.

    Args:
        order: ``rows``, one step per row, or ``pixels``, one step per pixel.
        permute: whether to permute the pixels, in the same way for all images.
        permutation_seed: seed of the permutation.
        data: a file of ``numpy.savez`` with ``images`` and ``labels``, or with ``x_train``, ``y_train``, ``x_test``,
            ``y_test`` (like MNIST in Keras), and optionally ``x_valid``, ``y_valid``.
        data_dir: a folder with a folder of images for each class, or with ``train`` and ``test`` (and optionally
            ``valid``) that contain such folders. Without both: the 1,797 digits of 8 x 8 pixels of scikit-learn.
        split_seed: seed of the splits; independent of ``seed``.
        sequence_length: maximum number of steps read from an image; null reads all.
        balance: how to handle class imbalance: ``none``, ``weights`` in the loss, or ``sampling`` of rare classes
            more often.
        balance_power: strength of the balancing: weights are ``count ** -balance_power``; 1 makes all classes equal.
        label_smoothing: share of the target spread over all classes.

    Raises:
        ValueError: an option is out of range, or two contradict each other.
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
        check_choice("order", order, Order)
        if permute and order == "rows":
            raise ValueError("permute=true permutes pixels, but order is rows; set order=pixels")
        check_range("permutation_seed", permutation_seed, 0)
        check_paths(data, data_dir)
        self.order, self.permute, self.permutation_seed = order, permute, permutation_seed
        self.data, self.data_dir, self.split_seed = data, data_dir, split_seed

    def splits(self) -> Mapping[str, Examples]:
        """Read and split the images.

        Raises:
            ValueError: the images cannot be read, or a class has too few; the message says what to do.
            UserError: a package that reads them is not installed.
        """
        if self.data is not None:
            where = f"task.data={self.data}"
            images = read_arrays(Path(self.data).expanduser(), where)
        elif self.data_dir is not None:
            where = f"task.data_dir={self.data_dir}"
            images = read_folder(user_folder(self.data_dir, where), where)
        else:
            where, images = "task=pixels", digits()
        found = arrange_images(images, where, self.split_seed)
        pixels = images.pixels.astype(np.float32)
        splits = {split: self._sequences(pixels[rows], found.targets[split]) for split, rows in found.rows.items()}
        self.set_classes(found.classes, splits["train"].targets)
        self.notes = found.notes
        return splits

    def _sequences(self, pixels: NDArray[np.float32], targets: list[int]) -> Examples:
        images = torch.from_numpy(pixels)
        count, height, width = images.shape
        if self.order == "rows":
            steps = images.reshape(count * height, width)
        else:
            steps = images.reshape(count, height * width)[:, self.permutation(height * width)].reshape(-1, 1)
        lengths = torch.full((count,), len(steps) // count)
        return Examples(Ragged(steps, lengths), torch.tensor(targets))

    def permutation(self, pixels: int) -> Tensor:
        """Return the order in which the pixels are read, ``[pixels]``."""
        if not self.permute:
            return torch.arange(pixels)
        return torch.randperm(pixels, generator=torch.Generator().manual_seed(self.permutation_seed))


@final
@dataclass
class Images:
    """Labelled grey images of one size, as read from a source.

    Attributes:
        pixels: from 0 to 1, ``[count, height, width]``.
        labels: of each image.
        splits: of each image; ``None`` if the source has none. ``valid`` may be missing.
        notes: remarks on reading, for the report.
    """

    pixels: NDArray[Any]
    labels: list[str]
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def arrange_images(images: Images, where: str, seed: int) -> Arranged:
    """Split images 80 : 10 : 10 by class, or use the splits of the source.

    Duplicates with the same label are removed (within a split, if splits are given); an image with several labels is in
    one split with all of them. With given splits, images that occur in test (or valid) are removed from train. Classes
    that are numbers come first, by value.

    Raises:
        ValueError: there is only one class, or a label has too few images, or none in training.
    """
    names = [hashlib.sha256(image.astype(np.float32).tobytes()).hexdigest() for image in images.pixels]
    splits = images.splits or [""] * len(names)
    first = dict(reversed([(key, row) for row, key in enumerate(zip(names, images.labels, splits, strict=True))]))
    kept = sorted(first.values())
    documents = Documents(names, images.labels, images.splits, list(images.notes), noun="images").take(kept)
    if copies := len(names) - len(kept):
        documents.notes.append(f"duplicate images removed: {copies:,}")
    arranged = arrange(documents, where, seed)
    rows = {split: [kept[row] for row in part] for split, part in arranged.rows.items()}
    classes = sorted(
        arranged.classes, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)
    )
    number = [classes.index(label) for label in arranged.classes]
    targets = {split: [number[target] for target in targets] for split, targets in arranged.targets.items()}
    return Arranged(classes, rows, targets, arranged.notes)


def digits() -> Images:
    """Return the 1,797 digits of 8 x 8 pixels shipped with scikit-learn.

    They are the test set of the UCI repository's "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998).

    Raises:
        UserError: scikit-learn is not installed.
    """
    found = _optional("sklearn.datasets", "scikit-learn", "task=pixels with the digits of scikit-learn")
    data = found.load_digits()
    return Images(np.asarray(data.images) / 16, [str(label) for label in data.target.tolist()])


def _optional(module: str, package: str, user: str) -> Any:
    """Import a module of an optional dependency.

    Raises:
        UserError: its package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise UserError(f'{user} needs {package}, which is not installed: pip install "seqlab[images]"') from None


def read_folder(path: Path, where: str) -> Images:
    """Read a folder with a folder of images for each class, or with ``train``, ``test`` (and ``valid``) that have such.

    Raises:
        ValueError: there are no images, one cannot be read, or two differ in size.
        UserError: Pillow is not installed.
    """
    names = {part.name for part in class_folders(path)}
    if not names:
        raise ValueError(f"{where} has no folders; it must have one of images for each class")
    if not names & {"train", "test"}:
        return _read_images({"": path}, path, where)
    if not {"train", "test"} <= names:
        missing = "test" if "train" in names else "train"
        raise ValueError(f"{where} has no folder {missing}; it must have train and test (and optionally valid)")
    return _read_images({name: path / name for name in SPLITS if name in names}, path, where)


def _read_images(parts: Mapping[str, Path], root: Path, where: str) -> Images:
    pillow = _optional("PIL.Image", "pillow", where)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    splits: list[str] = []
    first, others = "", 0
    found = (
        (split, label, file) for split, part in parts.items() for label in class_folders(part) for file in _files(label)
    )
    for split, label, file in found:
        if not file.name.lower().endswith(ENDINGS):
            others += 1
            continue
        name = str(file.relative_to(root))
        image = _read_image(pillow, file, f"{where}: {name}")
        first = first or name
        if image.shape != (pixels or [image])[0].shape:
            sizes = [" x ".join(map(str, one.shape[::-1])) for one in (image, pixels[0])]
            raise ValueError(
                f"{where}: all images must have one size, but {name} has {sizes[0]} pixels, {first} {sizes[1]};"
                " resize them first"
            )
        pixels.append(image)
        labels.append(label.name)
        splits.append(split)
    if not pixels:
        raise ValueError(f"{where} has no images ({', '.join(ENDINGS)}); it must have a folder of them for each class")
    notes = [f"files other than images skipped: {others:,}"] if others else []
    return Images(np.stack(pixels) / 255, labels, splits if "" not in parts else None, notes)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != ".")


def _read_image(pillow: Any, file: Path, where: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the limit below is smaller
            with pillow.open(file, formats=_FORMATS) as image:
                if image.mode not in _MODES:
                    raise ValueError(f"{where} has pixels of mode {image.mode}; save it with 8 bits per channel")
                if image.width * image.height > _MAX_PIXELS:
                    size = f"{image.width:,} x {image.height:,}"
                    raise ValueError(f"{where} has {size} pixels; the limit is {_MAX_PIXELS:,}")
                return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, EOFError, zlib.error, pillow.DecompressionBombError) as error:
        raise ValueError(f"{where} cannot be read as an image ({type(error).__name__}); remove it") from error


def read_arrays(path: Path, where: str) -> Images:
    """Read a file of named arrays, as written by ``numpy.savez``.

    It has ``images`` and ``labels``; or ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and ``x_valid``,
    ``y_valid``). Images are ``[count, height, width]``, or ``[count, height, width, channels]`` with 1 or 3 channels.

    Raises:
        ValueError: it is another kind of file, lacks an array, or one has the wrong shape.
    """
    if not path.is_file():
        raise ValueError(f"{where}: no such file")
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError(f"{where} has one array without a name; use numpy.savez(FILE, images=..., labels=...)")
            assert file.zip is not None
            check_archive(file.zip)
            pairs = _pairs(set(file.files), where)
            found = {split: (file[images], file[labels]) for split, images, labels in pairs}
    except MemoryError as error:
        raise ValueError(f"{where} has an array that is too large for the memory") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, SyntaxError, TypeError, RuntimeError) as error:
        raise ValueError(f"{where} is damaged, or not a file of numpy.savez ({type(error).__name__})") from error
    except ValueError as error:
        if "pickle" in str(error):
            raise ValueError(
                f"{where} has Python objects, which are not read; save arrays of numbers or texts"
            ) from error
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
    return _joined(found, where)


def _pairs(names: set[str], where: str) -> list[tuple[str, str, str]]:
    if {"images", "labels"} <= names:
        return [("", "images", "labels")]
    given = [split for split in SPLITS if {f"x_{split}", f"y_{split}"} <= names]
    if not {"train", "test"} <= set(given):
        have = ", ".join(sorted(names)) or "nothing"
        raise ValueError(f"{where} must have images and labels, or x_train, y_train, x_test and y_test, got {have}")
    return [(split, f"x_{split}", f"y_{split}") for split in given]


def _joined(found: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], where: str) -> Images:
    pixels, labels, splits = [], [], []
    for split, (images, names) in found.items():
        what = f"{where}: the images of {split}" if split else f"{where}: the images"
        pixels.append(_grey(images, what))
        if names.ndim != 1 or len(names) != len(images) or names.dtype.kind not in "iubUS":
            raise ValueError(
                f"{what} need {len(images):,} labels, integers or texts, got {names.dtype} of shape {names.shape}"
            )
        labels += [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
        splits += [split] * len(images)
        if pixels[0].shape[1:] != pixels[-1].shape[1:]:
            sizes = [" x ".join(map(str, part.shape[:0:-1])) for part in (pixels[0], pixels[-1])]
            raise ValueError(f"{what} must have {sizes[0]} pixels, as in train, got {sizes[1]}")
    most = max(float(part.max(initial=0)) for part in pixels)
    white = 255.0 if all(images.dtype == np.uint8 for images, _ in found.values()) else max(most, 1.0)
    return Images(np.concatenate(pixels) / white, labels, None if "" in found else splits)


def _grey(images: NDArray[Any], what: str) -> NDArray[np.float64]:
    if images.dtype.kind not in "iufb":
        raise ValueError(f"{what} must be numbers, got {images.dtype}")
    if images.ndim == 4 and images.shape[3] in (1, 3):
        images = images[..., 0] if images.shape[3] == 1 else images @ _LUMA
    if images.ndim != 3 or not images.size:
        shape = "[count, height, width] or [count, height, width, 1 or 3]"
        raise ValueError(f"{what} must have the shape {shape}, got {images.shape}")
    grey = images.astype(np.float64)
    if not np.isfinite(grey).all() or grey.min() < 0:
        raise ValueError(f"{what} must be finite and >= 0")
    return grey
