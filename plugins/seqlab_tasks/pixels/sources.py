"""Where images come from: scikit-learn's digits, a folder, or a file of arrays."""

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab import UserError
from seqlab.io.safe_io import check_archive
from seqlab_tasks.pixels.images import Images
from seqlab_tasks.textclf.documents import SPLITS

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_READABLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of Pillow with 8 bits a channel, which it turns into grey by the luma of ITU-R 601."""
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""What the endings stand for. Left to itself Pillow goes by the content, and hands PostScript to Ghostscript."""
_MOST_PIXELS = 2**24
_LUMA = np.array([0.299, 0.587, 0.114])


def digits() -> Images:
    """Read the 1,797 digits of 8 x 8 pixels that come with scikit-learn.

    They are the test set of the UCI repository's "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998).

    Raises:
        UserError: scikit-learn is not installed.
    """
    found = _needed("sklearn.datasets", "scikit-learn", "task=pixels with its default, the digits of scikit-learn,")
    data = found.load_digits()
    return Images(np.asarray(data.images) / 16, [str(label) for label in data.target.tolist()])


def _needed(module: str, package: str, by: str) -> Any:
    """Import a module that may be missing.

    Raises:
        UserError: its package is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise UserError(f'{by} needs {package}, which is not installed: pip install "seqlab[images]"') from None


def folder(path: Path, where: str) -> Images:
    """Read a folder that holds a folder of images for each class, or ``train``, ``test`` (and ``valid``) that do.

    Args:
        path: the folder.
        where: what an error begins with: the config key and its value.

    Raises:
        ValueError: there is none, it holds no images, one cannot be read, or two differ in size.
        UserError: Pillow is not installed.
    """
    if not path.is_dir():
        raise ValueError(f"{where}: there is no such folder" if not path.exists() else f"{where} is no folder")
    names = {part.name for part in _folders(path)}
    if not names:
        raise ValueError(f"{where} holds no folders; it must hold one for each class, with images in it")
    if not names & {"train", "test"}:
        return _read(dict.fromkeys([""], path), path, where)
    if not {"train", "test"} <= names:
        missing = "test" if "train" in names else "train"
        raise ValueError(f"{where} holds no folder {missing}; it must hold train and test (and valid, if there is one)")
    return _read({name: path / name for name in SPLITS if name in names}, path, where)


def _folders(path: Path) -> list[Path]:
    return sorted(part for part in path.iterdir() if part.is_dir() and part.name[0] != ".")


def _read(parts: Mapping[str, Path], root: Path, where: str) -> Images:
    pillow = _needed("PIL.Image", "pillow", where)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    splits: list[str] = []
    first, others = "", 0
    for split, part in parts.items():
        for label in _folders(part):
            for file in _files(label):
                if not file.name.lower().endswith(ENDINGS):
                    others += 1
                    continue
                name = str(file.relative_to(root))
                image = _image(pillow, file, f"{where}: {name}")
                first = first or name
                if image.shape != (pixels or [image])[0].shape:
                    sizes = [" x ".join(map(str, one.shape[::-1])) for one in (image, pixels[0])]
                    raise ValueError(
                        f"{where}: {name} has {sizes[0]} pixels, and {first} has {sizes[1]};"
                        " a sequence needs images of one size: bring them to it first"
                    )
                pixels.append(image)
                labels.append(label.name)
                splits.append(split)
    if not pixels:
        raise ValueError(
            f"{where} holds no images ({', '.join(ENDINGS)}); there must be a folder of them for each class"
        )
    notes = [f"files that are no images, left alone: {others:,}"] if others else []
    return Images(np.stack(pixels) / 255, labels, splits if "" not in parts else None, notes)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != ".")


def _image(pillow: Any, file: Path, where: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the bound below is a smaller one
            with pillow.open(file, formats=_FORMATS) as image:
                if image.mode not in _READABLE:
                    raise ValueError(f"{where} has pixels of mode {image.mode}; save it with 8 bits a channel")
                if image.width * image.height > _MOST_PIXELS:
                    size = f"{image.width:,} x {image.height:,}"
                    raise ValueError(f"{where} has {size} pixels; a sequence may have {_MOST_PIXELS:,}")
                return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, EOFError, zlib.error, pillow.DecompressionBombError) as error:
        raise ValueError(f"{where} cannot be read as an image ({type(error).__name__}); take it away") from error


def arrays(path: Path, where: str) -> Images:
    """Read a file of named arrays, as ``numpy.savez`` writes it.

    It holds ``images`` and ``labels``; or ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and ``x_valid``,
    ``y_valid``). Images are ``[count, height, width]``, or ``[count, height, width, channels]`` with 1 or 3 channels.

    Raises:
        ValueError: it is none, or lacks an array, or one has the wrong shape.
    """
    if not path.is_file():
        raise ValueError(f"{where}: there is no such file")
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError(
                    f"{where} holds one array without a name; numpy.savez(FILE, images=..., labels=...) names"
                )
            assert file.zip is not None
            check_archive(file.zip)
            pairs = _pairs(set(file.files), where)
            found = {split: (file[images], file[labels]) for split, images, labels in pairs}
    except MemoryError as error:
        raise ValueError(f"{where} holds an array that is too large for this machine") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, SyntaxError, TypeError, RuntimeError) as error:
        raise ValueError(f"{where} is damaged, or no file of numpy.savez ({type(error).__name__})") from error
    except ValueError as error:
        if "pickle" not in str(error):
            raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        raise ValueError(
            f"{where} holds Python objects, which are not read; save plain arrays of numbers or texts"
        ) from error
    return _joined(found, where)


def _pairs(names: set[str], where: str) -> list[tuple[str, str, str]]:
    if {"images", "labels"} <= names:
        return [("", "images", "labels")]
    given = [split for split in SPLITS if {f"x_{split}", f"y_{split}"} <= names]
    if not {"train", "test"} <= set(given):
        have = ", ".join(sorted(names)) or "nothing"
        raise ValueError(
            f"{where} holds {have}; it must hold images and labels, or x_train, y_train, x_test and y_test"
        )
    return [(split, f"x_{split}", f"y_{split}") for split in given]


def _joined(found: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], where: str) -> Images:
    pixels, labels, splits = [], [], []
    for split, (images, names) in found.items():
        what = f"{where}: the images of {split}" if split else f"{where}: the images"
        pixels.append(_grey(images, what))
        if names.ndim != 1 or len(names) != len(images) or names.dtype.kind not in "iubUS":
            raise ValueError(
                f"{what} are {len(images):,}; the labels must be as many whole numbers or texts, not"
                f" {names.dtype} of the shape {names.shape}"
            )
        labels += [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
        splits += [split] * len(images)
        if pixels[0].shape[1:] != pixels[-1].shape[1:]:
            sizes = [" x ".join(map(str, part.shape[:0:-1])) for part in (pixels[-1], pixels[0])]
            raise ValueError(f"{what} have {sizes[0]} pixels, and those of train {sizes[1]}; they must have one size")
    most = max(float(part.max(initial=0)) for part in pixels)
    whole = 255.0 if all(images.dtype == np.uint8 for images, _ in found.values()) else max(most, 1.0)
    return Images(np.concatenate(pixels) / whole, labels, None if "" in found else splits)


def _grey(images: NDArray[Any], what: str) -> NDArray[np.float64]:
    if images.dtype.kind not in "iufb":
        raise ValueError(f"{what} are of the type {images.dtype}; they must be numbers")
    if images.ndim == 4 and images.shape[3] in (1, 3):
        images = images[..., 0] if images.shape[3] == 1 else images @ _LUMA
    if images.ndim != 3 or not images.size:
        raise ValueError(
            f"{what} have the shape {images.shape}; it must be [count, height, width], or so with 1 or 3 channels"
        )
    grey = images.astype(np.float64)
    if not np.isfinite(grey).all() or grey.min() < 0:
        raise ValueError(f"{what} have pixels below 0, or not finite")
    return grey
