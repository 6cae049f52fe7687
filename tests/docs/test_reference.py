"""The generated reference pages."""

import re

import pytest


@pytest.fixture(scope="module")
def pages():
    import reference

    return reference.pages()


def test_every_key_has_a_meaning(pages):
    """Including keys of YAML files, described by comments."""
    rows = [row.split("\n     - ") for page in pages.values() for row in re.split(r"\n   \* - ", page)[1:]]
    keys = [(cells[0], cells[-1].split("\n")[0]) for cells in rows if re.match(r"``[\w./]+``$", cells[0])]
    assert len(keys) > 100
    assert [key for key, meaning in keys if not meaning.strip()] == []


def test_file_headers_render_without_directives(pages):
    page = pages["config_experiment"]
    assert "@package" not in page
    assert re.search(r"\.\. code-block:: sh\n\n   python -m seqlab -m experiment=horizon_quick ", page)
