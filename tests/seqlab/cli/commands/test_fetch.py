"""``fetch`` fills the caches of later runs."""

import http.server
import threading

import pytest

from seqlab.cli.commands.data import distinct_configs

QUICK = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=none", "trainer.progress=false", "data.batch_size=16")
LM = ("task=lm", "task.sequence_length=10", "data.batch_size=4")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a line of a text, and another one after it\n" * 200, "utf-8")
    return path


def made(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_later_run_changes_nothing_in_the_cache(cli, text, tmp_path):
    done = cli("fetch", *LM, f"task.data={text}")
    assert done.code == 0, done.err
    before = made(tmp_path / "cache")
    assert before
    assert str(tmp_path / "cache") in done.out
    run = cli(*QUICK, *LM, f"task.data={text}")
    assert run.code == 0, run.err
    assert made(tmp_path / "cache") == before


def test_each_data_of_a_sweep_is_fetched_once(text):
    words = [*LM, f"task.data={text}", "preprocessing=characters,words", "cell=rnn,lstm,gru", "seed=0,1"]
    found = distinct_configs([*words, "hydra/launcher=slurm", "hydra.launcher.partition=short"])
    assert [plain["preprocessing"]["name"] for plain in found] == ["characters", "words"]


def test_arguments_of_a_sweep(cli, text):
    done = cli("fetch", "-m", *LM, f"task.data={text}", "preprocessing=characters,words", "seed=0,1")
    assert done.code == 0, done.err
    assert "task=lm preprocessing=characters" in done.out
    assert "task=lm preprocessing=words" in done.out


def test_a_run_without_network_reads_the_cache(cli, tmp_path, monkeypatch):
    """The server is local and stops after ``fetch``."""
    texts = {
        f"ptb.{split}.txt": f"the {split} of a text is here\n".encode() * 300 for split in ("train", "valid", "test")
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = texts[self.path.rpartition("/")[2]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    serve_ptb(monkeypatch, texts, server := http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    words = [*LM, "task.source=ptb", "preprocessing=words"]
    try:
        done = cli("fetch", *words)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert done.code == 0, done.err
    run = cli(*QUICK, *words)
    assert run.code == 0, run.err


def serve_ptb(monkeypatch, texts, server):
    import hashlib

    from seqlab_tasks import lm_text as text

    monkeypatch.setattr(text, "PTB", f"http://127.0.0.1:{server.server_address[1]}/")
    for name, data in texts.items():
        monkeypatch.setitem(text.FILES["ptb"], name, hashlib.sha256(data).hexdigest())
