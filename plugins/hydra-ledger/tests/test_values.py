"""Values of run records that are rare."""

from hydra_ledger.files import read_json, write_json
from hydra_ledger.sweep import encode


class Pair:
    """As a tensor of two values."""

    def item(self):
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def test_no_value_fails_a_job_that_is_done():
    loop = []
    loop.append(loop)
    assert encode(Pair()) == encode([Pair()]) == encode(loop) == {}


def test_file_names_that_are_not_utf8_come_back(tmp_path):
    write_json(tmp_path / "a.json", {"name": "\udcff.txt"})
    assert read_json(tmp_path / "a.json") == {"name": "\udcff.txt"}
