"""Standalone encoder of an exported model: the ids of the preprocessor, without seqlab."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab import UserError
from seqlab.plugins.exports import standalone_encoder
from seqlab_preprocessing.bpe import BPE
from seqlab_preprocessing.byte_pairs import split, tables
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.words import Words

TEXTS = [
    "Nebele, Ångström!",
    "don't   stop\n2 × <unk> giới_thiệu",
    "e\u0301cole www.foody.vn/ha-noi 😀",
    "",
    "ﬁ Ａ ²",
    "e" + "\u0301" * 1_200 + "\u0323",
]  # fmt: skip
ALL = ["ascii", "urls", "punctuation", "digits", "emoji", "whitespace", "lower", "nfkc"]
CASES = {
    "characters": lambda: Characters(),
    "characters with steps": lambda: Characters(["ascii", "lower"]),
    "words": lambda: Words(),
    "words with all steps": lambda: Words(ALL),
    "lines": lambda: Words(["lower", "whitespace"], end_of_line=True),
    "white space": lambda: Words(pattern="whitespace"),
    "bpe": lambda: BPE(vocabulary_size=300),
    "bpe with steps": lambda: BPE(["lower", "nfkc"], vocabulary_size=300),
}
PROGRAM = """
import json, sys
for name in ("seqlab", "seqlab_preprocessing", "torch", "numpy"):
    sys.modules[name] = None  # an import of it fails
sys.path.insert(0, ".")
from encode import encoder
state, texts = json.load(sys.stdin)
print(json.dumps([encoder(state)(text) for text in texts]))
"""


@pytest.mark.parametrize("case", list(CASES))
def test_it_encodes_the_same_without_seqlab(case, tmp_path):
    preprocessor = CASES[case]()
    preprocessor.fit(TEXTS[:3])
    texts = [*TEXTS, "Zebra ɓ 日本 1st"]
    for name, source in standalone_encoder(preprocessor).items():
        (tmp_path / name).write_text(source, "utf-8")
    given = json.dumps([preprocessor.state_dict(), texts])
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], input=given, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    encoded = preprocessor.encode(texts)
    expected = [part.tolist() for part in encoded.values.split(encoded.lengths.tolist())]
    assert json.loads(done.stdout) == expected
    assert any(1 in ids for ids in expected) or case.startswith("bpe")  # which knows every byte
    assert sum(map(len, expected)) > 10


def test_a_step_that_needs_a_package_cannot_be_exported():
    try:
        with_package = Words(["html"])
    except UserError:
        pytest.skip("selectolax is not installed")
    assert standalone_encoder(with_package) is None


SAMPLES = [
    "a",
    "E",
    "the",
    "it's",
    "'ll",
    "7",
    "½",
    "é",
    "日",
    "😀",
    "!",
    "--",
    " ",
    "  ",
    "\n",
    "\t",
    "\xa0",
    "\ud800",
    "x" * 999,
]


@pytest.fixture(scope="module")
def bpe():
    fitted = BPE(vocabulary_size=400)
    fitted.fit([*TEXTS, "the cat isn't at the theatre; they'll see 1 234 é é ½ ½", "it's the  then"])
    return fitted


@settings(max_examples=300)
@given(text=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(SAMPLES), max_size=12).map("".join)))
def test_pieces_of_any_text_are_those_of_tokenizers(bpe, text):
    ids, ranks = tables(bpe.state_dict()["merges"], 2)
    assert [ids[piece] for piece in split(text, ranks)] == bpe.encode([text]).values.tolist()
