"""Lines that predict.py of an exported folder reads: those of ``python -m seqlab predict``, in any portions."""

import io

import pytest

from seqlab.cli.tables import read_lines
from seqlab.export.standalone.predict import arriving, whole_lines


class Portions(io.BytesIO):
    """A pipe through which each portion arrives by itself."""

    def __init__(self, portions):
        self.portions = list(portions)

    def read1(self, _=-1):
        return self.portions.pop(0) if self.portions else b""


@pytest.mark.parametrize(
    "portions",
    [(b"a\r\n",), (b"a\r\n", b"b\r\n"), (b"a\rb\n",), (b"a\rb",), (b"a", b"b\nc"), (b"\xef\xbb\xbfa\n\nb",)],
)
def test_lines_that_arrive(portions):
    found, expected = ([*read(Portions(portions))] for read in (arriving, lambda pipe: read_lines(pipe, "stdin")))
    assert found == expected


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"a\nb\n", ["a", "b"]), (b"a\r\nb\r\n", ["a", "b"]), (b"a\rb\r", ["a", "b"]), (b"a\n\nb", ["a", "", "b"])],
)
def test_lines_of_a_file(data, found):
    """The end of the last line is no blank line."""
    assert whole_lines(data, "file") == found
