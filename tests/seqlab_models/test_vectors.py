"""Pretrained word vectors: formats, messages about bad files, initialisation of the embedding."""

import logging
import struct

import numpy as np
import pytest
import torch
from torch import nn

from seqlab import Batch, InputSpec, Ragged, UserError
from seqlab_cells.lstm import LSTM
from seqlab_models.recurrent import RecurrentModel
from seqlab_models.vectors import read_vectors

SYMBOLS = ("", "\ufffd", "ngon", "dở", "không_gian", "Ngon", ".")
GLOVE = "ngon 1 2 3\nkhông_gian -0.5 1e-3 0\n. 7 8 9\nthe 1 1 1\nngon 9 9 9\n"


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("text", [GLOVE, "5 3\n" + GLOVE, "\ufeff" + GLOVE, GLOVE.replace("\n", " \r\n")])
def test_the_same_vectors_in_every_dialect(tmp_path, text):
    """GloVe has no header, word2vec has one, fastText ends lines with a blank; the first of two lines counts."""
    ids, values = read_vectors(write(tmp_path / "v.txt", text), SYMBOLS, 3)
    found = dict(zip(ids.tolist(), values.tolist(), strict=True))
    assert found == {2: [1, 2, 3], 4: [-0.5, pytest.approx(1e-3), 0], 6: [7, 8, 9]}


def test_a_word_may_hold_blanks_and_bytes_that_are_not_utf8(tmp_path):
    """As some lines of the published GloVe files do."""
    text = GLOVE.encode() + b". . . 1 2 3\n\xff\xfe 4 5 6\n"
    assert len(read_vectors(write(tmp_path / "v.txt", text), SYMBOLS, 3).ids) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("5 3\n", "is empty"),
        ("review,stars\n", "is not a text file of word vectors"),
        ("the 1 1 1\n", "has none of the 6 symbols of the vocabulary"),
        ("ngon 1 2 3 4\n", "has vectors of 4 numbers; set model.embedding_size=4"),
        ("the 1 1 1\nngon 1 2 x\n", "line 2 must be a word with 3 numbers"),
        ("9 3\n" + GLOVE, "has 5 words, and its first line says 9; download it again"),
        ("the 1 1 1\nngon 1 2 nan\n", "line 2 must be a word with 3 numbers"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = write(tmp_path / "v.txt", text)
    with pytest.raises(UserError, match=message) as caught:
        read_vectors(path, SYMBOLS, 3)
    assert str(caught.value).startswith(f"model.vectors={path}")


def fasttext(words, matrix, buckets, lengths=(3, 6), *, version=12, quantised=False):
    """A model file: options, dictionary and input matrix, as fastText writes them; what follows is not read."""
    size = matrix.shape[1]
    options = struct.pack("<12id", size, 5, 5, 1, 5, 1, 2, 2, buckets, *lengths, 100, 1e-4)
    entries = b"".join(word.encode() + b"\0" + struct.pack("<qb", 7, 0) for word in words)
    entries += b"__label__x\0" + struct.pack("<qb", 7, 1)
    sizes = struct.pack("<3i2q", len(words) + 1, len(words), 1, 100, -1)
    values = struct.pack("<?2q", quantised, *matrix.shape) + matrix.astype("<f4").tobytes()
    return struct.pack("<2i", 793712314, version) + options + sizes + entries + values + b"output matrix"


def bucket(gram, buckets):
    """FNV-1a of 32 bits in signed arithmetic, in which a byte above 127 is negative."""
    value = np.array(2166136261, np.uint32)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer(gram.encode(), np.int8):
            value = (value ^ byte.astype(np.int32).astype(np.uint32)) * np.uint32(16777619)
    return int(value) % buckets


def test_a_fasttext_model_gives_the_mean_of_a_word_and_its_ngrams(tmp_path):
    """Of a symbol that it does not list, the n-grams alone; the padding and ``<unk>`` have none."""
    words, buckets = ["</s>", "ngon", "."], 50
    matrix = np.random.default_rng(0).normal(size=(len(words) + buckets, 4))
    path = write(tmp_path / "model.bin", fasttext(words, matrix, buckets))
    symbols = ("", "<unk>", "ngon", "dở", ".", "</s>")
    ids, values = read_vectors(path, symbols, 4)
    grams = {
        "ngon": ["<ng", "<ngo", "<ngon", "<ngon>", "ngo", "ngon", "ngon>", "gon", "gon>", "on>"],
        "dở": ["<dở", "<dở>", "dở>"],
        ".": ["<.>"],
        "</s>": [],
    }
    assert [symbols[index] for index in ids.tolist()] == ["ngon", "dở", ".", "</s>"]
    for index, vector in zip(ids.tolist(), values.numpy(), strict=True):
        rows = [words.index(symbols[index])] if symbols[index] in words else []
        rows += [len(words) + bucket(gram, buckets) for gram in grams[symbols[index]]]
        assert vector == pytest.approx(matrix[rows].mean(0), abs=1e-6)


def test_a_binary_file_of_word2vec(tmp_path):
    rows = {"ngon": (1, 2, 3), "the": (4, 5, 6), "không_gian": (7, 8, 9)}
    for end in (b"", b"\n"):  # some writers end each vector with a newline
        entries = [word.encode() + b" " + struct.pack("<3f", *row) + end for word, row in rows.items()]
        path = write(tmp_path / "v.bin", b"3 3\n" + b"".join(entries))
        ids, values = read_vectors(path, SYMBOLS, 3)
        assert dict(zip(ids.tolist(), values.tolist(), strict=True)) == {2: [1, 2, 3], 4: [7, 8, 9]}


MODEL = fasttext(["ngon"], np.ones((3, 3)), 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (GLOVE.encode(), "no binary file of fastText or word2vec; a text file must not end in .bin"),
        (MODEL[:40], "is damaged"),
        (MODEL[:-60], "is damaged"),
        (b"5 3\nngon " + bytes(12), "is damaged"),
        (b"1 4\nngon " + bytes(16), "vectors of 4 numbers; set model.embedding_size=4"),
        (b"1 3\nngon " + struct.pack("<3f", 1, float("nan"), 1), "'ngon' has NaN or infinity"),
        (b"1 3\nthe " + bytes(12), "has none of the 6 symbols"),
        (fasttext(["ngon"], np.ones((3, 4)), 2), "vectors of 4 numbers; set model.embedding_size=4"),
        (fasttext(["ngon"], np.ones((3, 3)), 2, version=9), "has version 9"),
        (fasttext(["ngon"], np.ones((4, 3)), 2), "has 4 rows, and its header 1 words and 2 buckets"),
        (fasttext(["ngon"], np.ones((2, 3)), 2), "has 2 rows, and its header 1 words and 2 buckets"),
        (fasttext(["ngon"], np.ones((3, 3)), 2, quantised=True), "is quantised"),
    ],
)
def test_bad_binary_files(tmp_path, data, message):
    path = write(tmp_path / "v.bin", data)
    with pytest.raises(UserError, match=message) as caught:
        read_vectors(path, SYMBOLS, 3)
    assert str(caught.value).startswith(f"model.vectors={path}")


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_vectors(str(tmp_path / "none.txt"), SYMBOLS, 3)


def model(symbols=SYMBOLS, **options):
    torch.manual_seed(0)
    inputs = InputSpec("tokens", len(SYMBOLS), symbols)
    return RecurrentModel(
        inputs, lambda size: nn.Linear(size, 2), False, lambda size: LSTM(size, 4), "loop", embedding_size=3, **options
    )


def nothing():
    return Ragged.of([torch.tensor([2])])


def test_the_embedding_is_initialised(tmp_path, caplog):
    path = write(tmp_path / "v.txt", GLOVE)
    plain, ours = model(), model(vectors=path)
    with caplog.at_level(logging.INFO, "seqlab"):
        ours.prepare(nothing)
    assert caplog.messages == [f"vectors: 3 of 6 symbols found in {path}"]
    table = ours.encoder.weight
    assert table[4].tolist() == [-0.5, pytest.approx(1e-3), 0]
    others = torch.tensor([0, 1, 3, 5])
    assert torch.equal(table[others], plain.encoder.weight[others])
    assert not table[0].any()
    assert table.requires_grad


def test_frozen_vectors_do_not_learn(tmp_path):
    ours = model(vectors=write(tmp_path / "v.txt", GLOVE), freeze_vectors=True)
    ours.prepare(nothing)
    before = ours.encoder.weight.clone()
    optimizer = torch.optim.AdamW([parameter for parameter in ours.parameters() if parameter.requires_grad], lr=0.1)
    outputs, _ = ours(Batch(torch.tensor([[2, 4, 6]]), None, torch.zeros(1)))
    outputs.square().sum().backward()
    optimizer.step()
    assert torch.equal(ours.encoder.weight, before)
    assert any(parameter.grad is not None for parameter in ours.head.parameters())


def test_a_trained_model_needs_no_file(tmp_path):
    """The weights are in the run folder, so that only training reads the vectors."""
    ours = model(vectors=write(tmp_path / "v.txt", GLOVE))
    ours.prepare(nothing)
    again = model(vectors=str(tmp_path / "gone.txt"))
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.encoder.weight, ours.encoder.weight)


def test_contradictory_options():
    with pytest.raises(UserError, match="needs a preprocessing with known symbols; set preprocessing=words"):
        model(symbols=None, vectors="x.txt").prepare(nothing)
    with pytest.raises(ValueError, match="freeze_vectors=true needs vectors"):
        model(freeze_vectors=True)
    with pytest.raises(ValueError, match="vectors=x needs an embedding"):
        model(vectors="x", input="onehot")
