"""The table of docs/explain/shown.md lists every page and existing tests."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "explain" / "shown.md").read_text("utf-8")


def test_every_page_is_listed():
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").glob("*/*.md")}
    listed = set(re.findall(r"\[([a-z_]+/[a-z_]+)\]\(", TABLE))
    sections = {page for page in pages if page.endswith("/index")} - {"gallery/index"}
    assert listed == pages - sections


def test_every_listed_test_exists():
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", TABLE))
    assert len(named) > 30
    missing = [name for name in sorted(named) if not (ROOT / name).is_file()]
    assert not missing
