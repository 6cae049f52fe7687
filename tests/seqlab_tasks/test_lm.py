"""Language modelling: reading, division into splits, messages about bad files, metrics and heads."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

import seqlab
from seqlab import Batch, InputSpec
from seqlab.config.schema import plain_config
from seqlab.testing import TaskSuite
from seqlab.training.session import prepare_data
from seqlab_tasks import lm_text
from seqlab_tasks.lm import LARGE, AdaptiveHead, LanguageModelling, LossByPosition, language_metrics, position_table
from seqlab_tasks.lm_text import WORD_COUNTS, comparison_notes, divided, pieces, whole

DOCS = Path(__file__).resolve().parents[2] / "docs"


class TestLanguageModelling(TaskSuite):
    task = LanguageModelling
    options = {"data": f"{DOCS}/do/*.md", "sequence_length": 50}  # noqa: RUF012  # as a person writes it
    skips = {"every_option": "data wins over each other source"}  # noqa: RUF012  # as a person writes it


def text_of(corpus):
    return "".join(corpus.pieces())


@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=20), min_size=1),
    files=st.integers(1, 3),
)
def test_the_parts_are_the_whole_and_end_after_lines(lines, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    paths = []
    for index in range(files):
        paths.append(folder / f"{index}.txt")
        paths[-1].write_bytes("".join(f"{line}\n" for line in lines).encode())
    parts = divided(paths, (0.1, 0.2), 10**6)
    texts = ["".join(pieces(part, "task.data=x", "strict")) for part in parts]
    assert "".join(texts) == "".join(path.read_bytes().decode() for path in paths)
    assert all(text.endswith("\n") for text in texts if text)


def test_a_line_without_end_is_cut_between_characters(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes("ễ".encode() * 2_000_000)
    parts = divided([path], (0.1, 0.1), 10**6)
    texts = ["".join(pieces(part, "task.data=x", "strict")) for part in parts]
    assert "".join(texts) == "ễ" * 2_000_000
    assert all(texts)


def test_pieces_are_small_and_whole(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(b"x" * 10_000_000 + b"\n" + "ä\u2028b\u0085c\n".encode() * 10)
    found = list(pieces(whole([path]), "task.data=x", "strict"))
    assert max(map(len, found)) < 3 * 2**20
    assert "".join(found).encode() == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"abc\nd\xe9f\n" * 40, r"byte 5 is not UTF-8 \(0xe9\); save the file as UTF-8, or set task.encoding_errors"),
        (b"abc\n\0d\n" * 40, "byte 4 is NUL"),
        (b"ab\n", "too short to hold out a part"),
    ],
)
def test_bad_files_are_named(content, message, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        text_of(LanguageModelling(data=str(path)).splits()["train"])


def test_a_bad_byte_is_located(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("ä".encode() * 600_000 + b"\n\xff" + b"a\n" * 100_000)
    with pytest.raises(ValueError, match="byte 1200001 is not UTF-8"):
        text_of(LanguageModelling(data=str(path)).splits()["train"])
    replaced = text_of(LanguageModelling(data=str(path), encoding_errors="replace").splits()["train"])
    assert "\ufffda\n" in replaced


def test_a_byte_order_mark_is_removed(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"some text\n" * 100)
    assert text_of(LanguageModelling(data=str(path)).splits()["train"]).startswith("some")


def test_a_pattern_names_files(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(f"{name}\n" * 100, "utf-8")
    splits = LanguageModelling(data=f"{tmp_path}/*.txt").splits()
    assert text_of(splits["train"]).startswith("a.txt")
    assert "b.txt" in text_of(splits["test"])
    for data, message in ((f"{tmp_path}/*.md", "matches no file"), (str(tmp_path), "is a folder; set files")):
        with pytest.raises(ValueError, match=message):
            LanguageModelling(data=data).splits()


def test_another_text_has_another_fingerprint(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one\n" * 100)
    first = LanguageModelling(data=str(path)).splits()
    assert LanguageModelling(data=str(path)).splits()["train"].fingerprint == first["train"].fingerprint
    assert first["train"].fingerprint != first["valid"].fingerprint
    path.write_text("two\n" * 101)
    assert LanguageModelling(data=str(path)).splits()["train"].fingerprint != first["train"].fingerprint


def test_metrics_ignore_padding():
    outputs, targets = torch.randn(2, 5, 7), torch.tensor([[3, 4, 0, 0, 0], [1, 2, 3, 4, 5]])
    logs = outputs.double().log_softmax(-1)
    nats = -sum(float(logs[r, t, targets[r, t]]) for r in range(2) for t in range(5) if targets[r, t])
    metrics = language_metrics()
    metrics.update(outputs[:, :3], targets[:, :3])
    metrics.update(outputs[:, 3:], targets[:, 3:])
    found = metrics.compute()
    assert math.isclose(float(found["loss"]), nats / 7, rel_tol=1e-6)
    assert math.isclose(float(found["perplexity"]), math.exp(nats / 7), rel_tol=1e-6)
    derived = LanguageModelling().derived({"loss": nats / 7}, {"tokens": 7, "bytes": 20, "share_unknown": 0.5})
    assert math.isclose(derived["bits_per_byte"], nats / math.log(2) / 20)
    by_position = LossByPosition(5)
    by_position.update(outputs, targets)
    assert by_position.compute()[1].tolist() == [2, 2, 1, 1, 1]
    assert math.isclose(float(by_position.compute()[0].sum()), nats, rel_tol=1e-6)
    first = -outputs[:, 0].log_softmax(-1).gather(1, targets[:, :1]).squeeze(1).double()
    row = position_table(by_position.compute())[0]
    assert math.isclose(row["loss"], float(first.mean()), rel_tol=1e-5)
    assert math.isclose(row["standard_error"], float(first.std(correction=0)) / math.sqrt(2), rel_tol=1e-4)


@pytest.mark.parametrize("size", [16, 23])
def test_the_adaptive_softmax_agrees_with_itself(size):
    """The loss in training is that of the distribution in evaluation, also with as many features as tokens."""
    task = LanguageModelling(adaptive=[5, 11])
    task.set_vocabulary(InputSpec("tokens", 23), torch.arange(23))
    head = task.head(size)
    assert isinstance(head, AdaptiveHead)
    features, targets = torch.randn(3, 4, size), torch.randint(0, 23, (3, 4))
    targets[0, 0] = 0
    batch = Batch(targets, None, targets)
    training = task.loss(head(features), batch)
    logs = head.eval()(features)
    assert torch.allclose(logs.exp().sum(-1), torch.ones(3, 4), atol=1e-5)
    assert torch.allclose(training, task.loss(logs, batch), atol=1e-5)
    with pytest.raises(ValueError, match="adaptive must ascend"):
        AdaptiveHead(4, 23, [5, 5])


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_a_large_vocabulary_is_scored_in_pieces(dtype, close, monkeypatch):
    """The loss and every gradient equal those in one piece in float64; in evaluation there are the scores."""
    monkeypatch.setattr("seqlab_tasks.lm.SCORES", 32 * LARGE)  # three pieces
    task = LanguageModelling()
    task.set_vocabulary(InputSpec("tokens", LARGE), torch.ones(LARGE))
    torch.manual_seed(0)
    head = task.head(6).to(dtype)
    features, targets = torch.randn(4, 20, 6, dtype=dtype), torch.randint(0, LARGE, (4, 20))
    targets[1, 3:] = 0
    found = [features.clone().requires_grad_(), *head.parameters()]
    loss = task.loss(head(found[0]), Batch(targets, None, targets))
    wanted = [tensor.detach().double().requires_grad_() for tensor in found]
    whole = F.cross_entropy(F.linear(*wanted).flatten(0, 1), targets.flatten(), ignore_index=0)
    assert math.isclose(loss.item(), whole.item(), rel_tol=close)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, found), torch.autograd.grad(3 * whole, wanted), strict=True):
        assert torch.allclose(ours.double(), theirs, rtol=10 * close, atol=close * float(theirs.abs().max()))
    scores = head.eval()(features)
    assert scores.shape == (4, 20, LARGE)
    assert math.isclose(task.loss(scores, Batch(targets, None, targets)).item(), whole.item(), rel_tol=10 * close)


def test_a_large_vocabulary_takes_little_memory():
    """The peak of a step is far below the scores of all tokens, which would be 256 MB here."""
    task = LanguageModelling()
    task.set_vocabulary(InputSpec("tokens", 20_000), torch.ones(20_000))
    head = task.head(16)
    features, targets = torch.randn(1, 3200, 16, requires_grad=True), torch.randint(1, 20_000, (1, 3200))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        task.loss(head(features), Batch(targets, None, targets)).backward()
    peak = max(event.self_cpu_memory_usage for event in profiled.events())
    assert peak < 20e6, f"{peak / 1e6:.0f} MB in one piece"


def test_a_source_from_a_folder_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"has no ptb.train.txt, which task.source=ptb needs"):
        LanguageModelling(source="ptb", data_dir=str(tmp_path)).splits()


@given(text=st.text(st.sampled_from("ab\r\nä"), max_size=60), block=st.integers(4, 20))
def test_cr_lf_is_one_line_end(text, block, tmp_path_factory):
    """Whatever the blocks in which a file is read, and however long its lines."""
    path = tmp_path_factory.getbasetemp() / "crlf.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_text, "_BLOCK", block)
        found = "".join(pieces(whole([path]), "task.data=x", "strict"))
    assert found == text.replace("\r\n", "\n")


WIKI = " \n = A Title = \n \n The <unk> of A @-@ B is 1 @,@ 200 . \n It is n't so . \n \n"
"""The layout of WikiText-2: a line is its words between spaces."""


def write_wiki(folder, end="\n", repeats=20):
    for split in ("train", "valid", "test"):
        (folder / f"wiki.{split}.tokens").write_bytes((WIKI * repeats).replace("\n", end).encode())


def prepared(*overrides):
    return prepare_data(plain_config(seqlab.compose(["task=lm", "task.sequence_length=5", *overrides])))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_words_of_a_public_source_are_its_own(end, tmp_path, monkeypatch):
    """The tokens are those between white space, with one for each line end, without a key."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    write_wiki(tmp_path, end)
    folder = ["task.source=wikitext-2", f"task.data_dir={tmp_path}"]
    _, data = prepared(*folder, "preprocessing=words")
    words = WIKI.replace("\n", "<eos>").split()
    assert len(data.tokens["test"]) == 20 * len(words)
    assert {*data.preprocessor.symbols[1:]} == {*words}
    assert data.example_texts == ["= A Title ="]
    _, other = prepared(*folder, "preprocessing=words", "preprocessing.pattern=words")
    assert "-" in other.preprocessor.symbols
    assert prepared("task.data=" + str(tmp_path / "wiki.train.tokens"), "preprocessing=words")[1].preprocessor.pattern


def test_a_perplexity_that_cannot_be_compared_is_named(tmp_path):
    known = WORD_COUNTS["ptb"]
    assert comparison_notes("ptb", known, known[0], 10_000) == []
    (vocabulary,) = comparison_notes("ptb", known, known[0], 5_000)
    (tokens,) = comparison_notes("ptb", known, 972_435, 9_656)
    (files,) = comparison_notes("ptb", (10, 10, 10), 10, 5)
    assert "5,000" in vocabulary
    assert "preprocessing.pattern=whitespace preprocessing.end_of_line=true" in tokens
    assert "10, 10, 10" in files
    task = LanguageModelling(source="wikitext-2")
    task.set_vocabulary(InputSpec("tokens", 3, ("", "<unk>", "a")), torch.tensor([0, 1, 2]))
    assert len(task.report({}, tmp_path).notes) == 1
    task = LanguageModelling(data="mine.txt")
    task.set_vocabulary(InputSpec("tokens", 3, ("", "<unk>", "a")), torch.tensor([0, 1, 2]))
    assert task.report({}, tmp_path).notes == []


def test_a_suggested_prompt_can_be_printed(tmp_path, monkeypatch):
    """Unknown tokens, control characters and empty lines are left out."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    path = tmp_path / "text.txt"
    path.write_text("a b\n" * 200 + "\n\x1b[1m \u200fçç a\tb \n" * 30, "utf-8")
    _, data = prepared(f"task.data={path}", "preprocessing=words", "task.held_out=0.2")
    (prompt,) = data.example_texts
    assert prompt
    assert prompt.isprintable()
    assert "\ufffd" not in prompt
