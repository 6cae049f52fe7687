"""Standalone encoder of an exported model: the ids of the preprocessor, without seqlab."""

import json
import subprocess
import sys

import pytest

from seqlab import UserError
from seqlab.plugins.exports import standalone_encoder
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
    assert any(1 in ids for ids in expected)
    assert sum(map(len, expected)) > 10


def test_a_step_that_needs_a_package_cannot_be_exported():
    try:
        with_package = Words(["html"])
    except UserError:
        pytest.skip("selectolax is not installed")
    assert standalone_encoder(with_package) is None
