"""Plugins of real distributions, installed into a folder on the path."""

import sys

import pytest

from seqlab import UserError
from seqlab.plugins import find, plugins


def test_third_party_plugin_is_found_without_import(distribution):
    distribution("acme", "[seqlab.cells]\nacme = acme_cell:Acme\n", {"acme_cell": "Acme = 3"})
    plugin = plugins("cell")["acme"]
    assert (plugin.distribution, plugin.version, plugin.target) == ("acme", "1.0", "acme_cell:Acme")
    assert "acme_cell" not in sys.modules
    assert plugin.load() == 3


def test_unknown_name_lists_the_available_ones():
    with pytest.raises(UserError, match=r"cell=lstmm: there is no such cell; there are .*lstm"):
        find("cell", "lstmm")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module", "importing broken_cell gave ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "gave SyntaxError"),
        ("Other = 1", "broken_cell has no Broken"),
        (None, "No module named 'broken_cell'"),
    ],
)
def test_broken_plugin_is_explained_and_others_work(distribution, source, cause):
    modules = {} if source is None else {"broken_cell": source}
    distribution("acme-broken", "[seqlab.cells]\nbroken = broken_cell:Broken\n", modules, version="2.1")
    with pytest.raises(UserError) as caught:
        find("cell", "broken").load()
    assert "cell=broken of acme-broken 2.1 is broken" in str(caught.value)
    assert cause in str(caught.value)
    assert find("cell", "lstm").load().__name__ == "LSTM"


def test_name_of_two_distributions_is_refused(distribution):
    distribution("acme", "[seqlab.cells]\ntwice = a:A\n")
    distribution("zenith", "[seqlab.cells]\ntwice = z:Z\n", version="0.3")
    with pytest.raises(UserError, match=r"acme 1\.0 and zenith 0\.3 both provide a cell of this name"):
        find("cell", "twice").load()
    assert "lstm" in plugins("cell")
