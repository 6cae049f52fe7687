"""The built site in Chromium: text can be read in both themes, and no page is too long or too wide."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAGES = [
    "index", "learn/lstm", "learn/reach", "start/run", "explain/peers", "explain/architecture", "gallery/index",
    "reference/api", "reference/results_json", "reference/generated/commands", "reference/generated/config_cell",
    "search",
]  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that prints nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees")]
    done = subprocess.run([*sphinx, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


REFERENCES = ("reference/", "results/")
"""Folders of pages to look things up in, which may be long: API, keys, commands, fields, tables of results."""
SCREEN = 800


def measured(site, script, pages, profile):
    """Return what a script of this folder found in Chromium on pages of the site."""
    shutil.copy(Path(__file__).with_name(script), site)
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        query = "&".join(f"page={name}.html" for name in pages)
        address = f"http://127.0.0.1:{server.server_port}/{script}?{query}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command = [BROWSER, *options, "--virtual-time-budget=60000", "--timeout=100000", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        server.shutdown()
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))


@pytest.mark.slow
def test_it_is_built_without_a_warning(site):
    """As ``make docs`` builds it."""
    assert {f"{name}.html" for name in PAGES} <= {str(path.relative_to(site)) for path in site.rglob("*.html")}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_text_has_a_contrast_of_at_least_4_5(site, tmp_path):
    """Colours as computed by the browser, backgrounds composed (WCAG 2.2, contrast ratio)."""
    found = measured(site, "contrast.html", PAGES, tmp_path / "profile")
    assert len(found) == 2 * len(PAGES)
    assert all(each["texts"] > 10 for each in found.values())
    assert {page: each["found"] for page, each in found.items() if each["found"]} == {}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_page_has_at_most_two_screens_unless_it_is_a_reference_and_fits_a_phone(site, tmp_path):
    """As laid out on 1280 x 800 with its folds closed; on 390 pixels only tables and code scroll sideways."""
    pages = [path.relative_to(ROOT / "docs").with_suffix("") for path in sorted((ROOT / "docs").glob("**/*.md"))]
    pages = [page.as_posix() for page in pages if not page.parts[0].startswith("_")]
    found = measured(site, "layout.html", pages, tmp_path / "profile")
    assert len(found) == len(pages) > 40
    long = {page: round(each["height"] / SCREEN, 2) for page, each in found.items() if each["height"] > 2 * SCREEN}
    assert {page: screens for page, screens in long.items() if not page.startswith(REFERENCES)} == {}
    assert {page: each["width"] for page, each in found.items() if each["width"] > 390} == {}
