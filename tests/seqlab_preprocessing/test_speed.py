"""How fast texts are encoded: the figures that large corpora need, on the library's own source."""

import sysconfig
import time
from pathlib import Path

import pytest

from seqlab_preprocessing.bpe import BPE
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.words import Words


@pytest.fixture(scope="module")
def corpus():
    """Four megabytes in texts of one megabyte."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = "".join(file.read_text("utf-8", "replace") for file in files)[:4_000_000]
    return [text[start : start + 1_000_000] for start in range(0, len(text), 1_000_000)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preprocessor", "least"),
    [
        (Characters(), 20),
        (Words(pattern="whitespace", end_of_line=True), 5),
        (Words(end_of_line=True), 5),
        (BPE(vocabulary_size=4_000), 5),
    ],
    ids=["characters", "whitespace", "words", "bpe"],
)
def test_megabytes_a_second(corpus, preprocessor, least):
    """The best of three, in seconds of the processor, as the machine may be busy."""
    preprocessor.fit(iter(corpus))
    spent = []
    for _ in range(3):
        since = time.process_time()
        preprocessor.encode(corpus)
        spent.append(time.process_time() - since)
    assert sum(len(text.encode()) for text in corpus) / 1e6 / min(spent) >= least
