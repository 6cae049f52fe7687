"""Order of the steps, duplicates and splits of images, and messages about bad files."""

import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import seqlab
from seqlab.testing import TaskSuite
from seqlab_tasks.pixels import Images, Pixels, arrange_images


class TestPixels(TaskSuite):
    task = Pixels


class TestPermuted(TaskSuite):
    task = Pixels
    options: ClassVar = {"order": "pixels", "permute": True}
    skips: ClassVar = dict.fromkeys(("every_option", "same_in_another_process"), "TestPixels runs it")


def pictures(count=30, seed=0):
    """Two classes of 4 x 3 pixels: bright on the left, or on the right."""
    drawn = np.random.default_rng(seed).integers(0, 100, (count, 4, 3), dtype=np.uint8)
    labels = np.arange(count) % 2
    drawn[labels == 0, :, 0] += 150
    drawn[labels == 1, :, 2] += 150
    return drawn, labels


def write_folder(root, images, labels):
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / f"class{label}" / f"{row:03}.png")
    return root


def rows_of(split):
    return split.inputs.values.view(len(split), -1)


def test_orders_are_as_stated(tmp_path):
    """Rows and pixels are the image's own; the permutation is one for all images, and its seed makes another."""
    images, labels = pictures()
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    made = {}
    for name, options in {
        "rows": {},
        "pixels": {"order": "pixels"},
        "permuted": {"order": "pixels", "permute": True},
        "again": {"order": "pixels", "permute": True, "permutation_seed": 1},
    }.items():
        task = Pixels(data=str(tmp_path / "own.npz"), **options)
        made[name] = task.splits()["train"]
    flat = made["rows"].inputs.values.view(len(made["rows"]), 12)
    assert made["rows"].inputs.values.shape[1] == 3
    assert made["rows"].inputs.lengths.unique().tolist() == [4]
    assert made["pixels"].inputs.lengths.unique().tolist() == [12]
    assert torch.equal(rows_of(made["pixels"]), flat)
    order = Pixels(order="pixels", permute=True).permutation(12)
    assert sorted(order.tolist()) == list(range(12)) != order.tolist()
    assert torch.equal(rows_of(made["permuted"]), flat[:, order])
    assert not torch.equal(rows_of(made["again"]), rows_of(made["permuted"]))
    known = {image.tobytes() for image in (images.astype(np.float32) / 255).reshape(30, 12)}
    assert all(row.numpy().tobytes() in known for row in flat)


def test_a_folder_and_a_file_are_the_same_images(tmp_path):
    images, labels = pictures()
    np.savez(tmp_path / "own.npz", images=images, labels=np.array([f"class{label}" for label in labels]))
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", images, labels)
    (tmp_path / "folder" / "class0" / "notes.txt").write_text("not an image")
    one, other = Pixels(data=str(tmp_path / "own.npz")), Pixels(data_dir=str(tmp_path / "folder"))
    splits, others = one.splits(), other.splits()
    assert one.labels == other.labels == ("class0", "class1")
    for split in splits:
        pairs = [sorted(map(tuple, rows_of(part).tolist())) for part in (splits[split], others[split])]
        assert pairs[0] == pairs[1]
    assert "files other than images skipped: 1" in other.notes


def test_duplicates_and_images_of_test_are_removed(tmp_path):
    images, labels = pictures()
    twice = {"images": np.concatenate([images, images[:7]]), "labels": np.concatenate([labels, labels[:7]])}
    np.savez(tmp_path / "twice.npz", **twice)
    task = Pixels(data=str(tmp_path / "twice.npz"))
    assert sum(map(len, task.splits().values())) == 30
    assert "duplicate images removed: 7" in task.notes
    more, names = pictures(20, seed=1)
    leak = {"x_train": np.concatenate([images, more[:4]]), "y_train": np.concatenate([labels, names[:4]])}
    np.savez(tmp_path / "leak.npz", **leak, x_test=more, y_test=names)
    task = Pixels(data=str(tmp_path / "leak.npz"))
    splits = task.splits()
    assert len(splits["test"]) == 20
    assert len(splits["train"]) + len(splits["valid"]) == 30
    assert "images removed from train that also occur in valid or test: 4" in task.notes


def test_labels_that_are_numbers_are_in_their_order():
    images = Images(np.random.default_rng(0).random((60, 2, 2)), [str(row % 12) for row in range(60)])
    assert arrange_images(images, "here", 0).classes == [str(number) for number in range(12)]


def test_folders_of_splits_are_kept(tmp_path):
    images, labels = pictures(50)
    write_folder(tmp_path / "train", images[:40], labels[:40])
    write_folder(tmp_path / "test", images[40:], labels[40:])
    splits = Pixels(data_dir=str(tmp_path)).splits()
    assert [len(splits[name]) for name in ("train", "valid", "test")] == [36, 4, 10]


def npz(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return {"data": str(folder / "x.npz")}


IMAGES, LABELS = pictures()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "labels": np.zeros(30, int)}, r"all images have one class, '0'"),
        ({"images": IMAGES, "labels": LABELS[:9]}, r"the images need 30 labels"),
        ({"images": IMAGES[0], "labels": LABELS}, r"must have the shape \[count, height, width\] or .*, got \(4, 3\)"),
        ({"pictures": IMAGES, "labels": LABELS}, r"must have images and labels, .* got labels, pictures"),
        ({"images": -1.0 * IMAGES, "labels": LABELS}, r"the images must be finite and >= 0"),
        ({"images": np.array([None, 1], object), "labels": LABELS[:2]}, r"has Python objects, which are not read"),
        ({"x_train": IMAGES, "y_train": LABELS}, r"must have images and labels, or x_train, y_train, x_test"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :2], "y_test": LABELS},
            r"the images of test must have 3 x 4 pixels, as in train, got 3 x 2",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": pictures(9, 5)[0], "y_test": np.full(9, 7)},
            r"the label '7' is in test \(9 images\), but not in train",
        ),
        ({"images": IMAGES[:4], "labels": LABELS[:4]}, r"the label '0' has 2 different images; at least 3 are needed"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message) as caught:
        Pixels(**npz(tmp_path, **arrays)).splits()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"task.data={tmp_path}")


def test_bad_folders(tmp_path):
    def message():
        with pytest.raises(ValueError, match=r"task\.data_dir=") as caught:
            Pixels(data_dir=str(tmp_path / "f")).splits()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in message()
    (tmp_path / "f").mkdir()
    assert "has no folders" in message()
    (tmp_path / "f" / "cat").mkdir()
    assert "has no images" in message()
    write_folder(tmp_path / "f", *pictures())
    Image.new("L", (9, 9)).save(tmp_path / "f" / "class1" / "zz.png")
    assert "class1/zz.png has 9 x 9 pixels, class0/000.png 3 x 4" in message()
    Image.new("I;16", (3, 4)).save(tmp_path / "f" / "class1" / "zz.png")
    assert "class1/zz.png has pixels of mode I;16; save it with 8 bits per channel" in message()
    (tmp_path / "f" / "class1" / "zz.png").write_bytes(b"no picture")
    assert "class1/zz.png cannot be read as an image (UnidentifiedImageError)" in message()
    (tmp_path / "f" / "class1" / "zz.png").unlink()
    (tmp_path / "f" / "train").mkdir()
    assert "has no folder test" in message()


def test_damaged_files(tmp_path):
    for name, content in {"a.npz": b"no archive", "b.npz": b"PK\x03\x04 cut off", "c.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} (is damaged|has Python objects)"):
            Pixels(data=str(tmp_path / name)).splits()
    np.save(tmp_path / "d.npz.npy", IMAGES)
    with pytest.raises(ValueError, match="has one array without a name"):
        Pixels(data=str(tmp_path / "d.npz.npy")).splits()
    with pytest.raises(ValueError, match="no such file"):
        Pixels(data=str(tmp_path / "none.npz")).splits()


def test_a_missing_package_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(seqlab.UserError, match=r"needs scikit-learn, .*: pip install \"seqlab\[images\]\""):
        Pixels().splits()


def test_a_gru_reads_digits_row_by_row(tmp_path):
    overrides = ["task=pixels", "cell=gru", "cell.hidden_size=32", "trainer.max_epochs=6", "optimizer.lr=0.02"]
    quick = ["trainer.progress=false", "trainer.threads=1", "logger=none", "data.batch_size=64"]
    result = seqlab.run(seqlab.compose([*overrides, *quick]), tmp_path / "run")
    assert result.metrics["accuracy"] > 0.8 > 0.2 > result.chance["accuracy"]
    with pytest.raises(seqlab.UserError, match="needs a task of texts or symbols"):
        seqlab.load(tmp_path / "run").predict(["7"])
