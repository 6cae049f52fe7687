"""The built site; in Chromium, the text of every kind of page can be read, in the light and in the dark theme."""

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


@pytest.mark.slow
def test_it_is_built_without_a_warning(site):
    """As ``make docs`` builds it."""
    assert {f"{name}.html" for name in PAGES} <= {str(path.relative_to(site)) for path in site.rglob("*.html")}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_text_has_a_contrast_of_at_least_4_5(site, tmp_path):
    """Colours as computed by the browser, backgrounds composed (WCAG 2.2, contrast ratio)."""
    shutil.copy(Path(__file__).with_name("contrast.html"), site)
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pages = "&".join(f"page={name}.html" for name in PAGES)
        address = f"http://127.0.0.1:{server.server_port}/contrast.html?{pages}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command = [BROWSER, *options, "--virtual-time-budget=60000", "--timeout=100000", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        server.shutdown()
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert len(found) == 2 * len(PAGES)
    assert all(each["texts"] > 10 for each in found.values())
    assert {page: each["found"] for page, each in found.items() if each["found"]} == {}
