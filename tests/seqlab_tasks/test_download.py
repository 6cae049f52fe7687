"""Downloads from a local server."""

import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from seqlab import cache_folder
from seqlab_tasks.download import fetch_archive, verified
from seqlab_tasks.names import TUTORIAL_FILES, tutorial

FILES = {"data/names/Elvish.txt": b"Galadriel\nElrond\n", "data/names/Dwarvish.txt": b"Gimli\nDurin\n"}
DIGESTS = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


def zipped(files):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return made.getvalue()


class Server:
    """Serves one file at any address, and counts how often."""

    def __init__(self, data, status=200, promised=None, delay=0.0):
        self.requests = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler):  # noqa: N805  # self is the test's
                self.requests += 1
                time.sleep(delay)
                handler.send_response(status)
                handler.send_header("Content-Length", str(promised or len(data)))
                handler.end_headers()
                handler.wfile.write(data)

            def log_message(handler, *_):  # noqa: N805  # self is the test's
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/data.zip"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed():
    """An address that nobody serves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/data.zip"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_fetched_once_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "cache" / "names"
    with Server(zipped({**FILES, "data/eng-fra.txt": b"no", "../../evil.txt": b"no", "/evil.txt": b"no"})) as server:
        for _ in range(3):
            assert fetch_archive(server.address, DIGESTS, folder) == folder
        assert server.requests == 1
    found = contents(tmp_path)
    assert found.pop("cache/names.lock", b"") == b""
    assert found == {f"cache/names/{path.rpartition('/')[2]}": data for path, data in FILES.items()}


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"Sauron\n")])
def test_a_damaged_cache_is_fetched_anew(tmp_path, harm):
    folder = tmp_path / "names"
    with Server(zipped(FILES)) as server:
        fetch_archive(server.address, DIGESTS, folder)
        harm(folder / "Elvish.txt")
        assert not verified(folder, DIGESTS)
        fetch_archive(server.address, DIGESTS, folder)
        assert server.requests == 2
    assert verified(folder, DIGESTS)


def test_files_that_were_put_there_by_hand_need_no_network(tmp_path, closed):
    for path, data in FILES.items():
        (tmp_path / path.rpartition("/")[2]).write_bytes(data)
    assert fetch_archive(closed, DIGESTS, tmp_path) == tmp_path


def test_two_processes_on_a_cold_cache_fetch_once(tmp_path):
    folder = tmp_path / "names"
    code = (
        "import sys; from pathlib import Path; from seqlab_tasks.download import fetch_archive, verified;"
        f"digests = {DIGESTS!r}; folder = Path(sys.argv[2]); fetch_archive(sys.argv[1], digests, folder);"
        "sys.exit(not verified(folder, digests))"
    )
    with Server(zipped(FILES), delay=1.0) as server:
        asked = [subprocess.Popen([sys.executable, "-c", code, server.address, folder]) for _ in range(2)]
        assert [process.wait(timeout=60) for process in asked] == [0, 0]
        assert server.requests == 1
    assert {path.rpartition("/")[2] for path in contents(tmp_path)} == {"Elvish.txt", "Dwarvish.txt", "names.lock"}


def flipped(data):
    """Turn one bit of the first file's compressed bytes."""
    harmed = bytearray(data)
    harmed[30 + len("data/names/Elvish.txt") + 2] ^= 0x10
    return bytes(harmed)


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        (b"<html>Please log in</html>", "is damaged, or not a zip archive"),
        (b"", "is damaged, or not a zip archive"),
        (zipped(FILES)[:-30], "is damaged, or not a zip archive"),
        (flipped(zipped(FILES)), "is damaged, or not a zip archive|unexpected SHA-256"),
        (zipped({**FILES, "data/names/Elvish.txt": b"Sauron\n"}), "Elvish.txt in .* unexpected SHA-256"),
        (
            zipped({"data/names/Dwarvish.txt": FILES["data/names/Dwarvish.txt"]}),
            "does not contain data/names/Elvish.txt",
        ),
    ],
    ids=["a web page", "nothing", "cut short", "a bit turned", "another file", "a file missing"],
)
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path, served, complaint):
    with Server(served) as server, pytest.raises(ValueError, match=complaint) as caught:
        fetch_archive(server.address, DIGESTS, tmp_path / "names")
    assert "\n" not in str(caught.value)
    assert set(contents(tmp_path)) <= {"names.lock"}


def test_a_transfer_that_breaks_off_is_an_error(tmp_path):
    data = zipped(FILES)
    with Server(data[:50], promised=len(data)) as server, pytest.raises(OSError, match="cannot be downloaded"):
        fetch_archive(server.address, DIGESTS, tmp_path / "names")


@pytest.mark.parametrize("status", [404, 503])
def test_a_server_that_refuses(tmp_path, status):
    with Server(b"", status=status) as server, pytest.raises(OSError, match=r"data\.zip cannot be downloaded"):
        fetch_archive(server.address, DIGESTS, tmp_path / "names")


def test_no_network_says_which_folder_to_fill_and_what_else_to_do(tmp_path, closed, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"task.source=pytorch-tutorial: http\S+ cannot be downloaded") as caught:
        tutorial(closed, DIGESTS)
    message = str(caught.value)
    assert f"data/names into {tmp_path / 'names-pytorch-tutorial'}, set task.data_dir" in message
    assert "\n" not in message


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "mine"))
    with Server(zipped(FILES)) as server:
        files = tutorial(server.address, DIGESTS)
    assert [(file.parent.parent, file.name) for file in files] == [
        (tmp_path / "mine", "Elvish.txt"), (tmp_path / "mine", "Dwarvish.txt")
    ]  # fmt: skip
    monkeypatch.delenv("SEQLAB_CACHE")
    assert cache_folder().name == "seqlab"


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(OSError, match=r"cannot be written .*set SEQLAB_CACHE"):
        fetch_archive("http://127.0.0.1:9/", DIGESTS, tmp_path / "file" / "names")


def test_the_tutorials_files_are_those_of_18_languages():
    assert len(TUTORIAL_FILES) == 18
    assert all(len(digest) == 64 and path.startswith("data/names/") for path, digest in TUTORIAL_FILES.items())


@pytest.mark.data
@pytest.mark.skipif("SEQLAB_DATA" not in os.environ, reason="SEQLAB_DATA names no folder of real data")
def test_the_digests_are_those_of_the_real_files():
    from pathlib import Path

    folder = Path(os.environ["SEQLAB_DATA"]) / "names"
    assert verified(folder, TUTORIAL_FILES)
