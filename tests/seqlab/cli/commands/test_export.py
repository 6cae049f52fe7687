"""``export``: the folder, its use without seqlab, and refused exports."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab.export.folder import _lacking, export
from seqlab.export.formats import FORMATS

pytestmark = pytest.mark.usefixtures("no_shape_checks")
NAMES = ["Banana", "Bonobo", "Nébele"]


@pytest.fixture
def run(tongues, tmp_path):
    shutil.copytree(tongues, tmp_path / "run")
    return Path("run")


ALONE = """
import sys
for name in ("seqlab", "seqlab_cells", "seqlab_models", "seqlab_preprocessing", "seqlab_tasks", "torch"):
    sys.modules[name] = None  # an import of it fails
sys.path.insert(0, ".")
from predict import predict
import json
print(json.dumps(predict(sys.argv[1:])))
"""


def test_onnx_goes_from_text_to_label_without_seqlab_and_torch(cli, run):
    done = cli("export", str(run), "--format", "onnx", "--out", "given/away")
    assert done.code == 0, done.err
    assert "given/away: 9 batches compared with the run" in done.out
    out = Path("given/away")
    assert {path.name for path in out.iterdir()} == {
        "README.md", "encode.py", "export.json", "labels.json", "model.onnx", "predict.py", "preprocessor.json",
        "seqlab_preprocessing_steps.py", "table_files.py",
    }  # fmt: skip
    assert json.loads((out / "labels.json").read_text("utf-8")) == ["Aaish", "Eeish", "Ooish"]
    card = (out / "README.md").read_text("utf-8")
    exec(
        card.partition("```python\n")[2].partition("```")[0].replace("model.onnx", str(out / "model.onnx")), shown := {}
    )
    assert shown["outputs"].shape == (2, 3)
    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *NAMES], cwd=out, capture_output=True, text=True, timeout=250
    )
    assert alone.returncode == 0, alone.stderr
    found = json.loads(alone.stdout)
    expected = seqlab.load(run).predict(NAMES, top=1)
    for (label, probability), (answer,) in zip(found, expected, strict=True):
        assert label == answer["label"]
        assert probability == pytest.approx(answer["probability"], abs=1e-5)
    assert str(Path(seqlab.__file__).parent).encode() not in (out / "model.onnx").read_bytes()


COMMANDS = {
    "texts": (["Banana", "--", "-Bonobo"], b"", ["Banana", "-Bonobo"]),
    "a text with a dash": (["--", "-Bonobo"], b"", ["-Bonobo"]),
    "a negative number": (["-5", "Bonobo"], b"", ["-5", "Bonobo"]),
    "stdin": ([], b"\xef\xbb\xbfBanana\r\n\nN\xc3\xa9bele", ["Banana", "Nébele"]),
    "carriage returns": ([], b"Banana\rBonobo", ["Banana", "Bonobo"]),
    "a dash": (["-"], b"Bonobo\n", ["Bonobo"]),
    "a file": (["--input", "texts.txt"], b"", ["Banana", "Bonobo", "Nébele"]),
}
REFUSED = {
    "no text": ([], b"", "stdin has no text; write one per line"),
    "closed stdin": ([], None, "no text given; use TEXT"),
    "an empty text": (["Banana", ""], b"", "the text '' has nothing in it to read"),
    "an option": (["-Bonobo"], b"", "there is no option -Bonobo; a text that begins with a dash goes after --"),
    "no file": (["--input", "nowhere.txt"], b"", "nowhere.txt: No such file or directory"),
    "not UTF-8": (["-"], b"Banana\nN\xe9bele\n", "stdin: byte 8 is not UTF-8"),
    "UTF-16": ([], "Banana".encode("utf-16"), "stdin: byte 3 is zero"),
    "bytes": ([b"N\xe9bele"], b"", "text 1 is not UTF-8"),
    "both": (["Banana", "--input", "texts.txt"], b"", "not both"),
    "no output": (["--input", "good.csv"], b"", "--output FILE"),
    "a column of no table": (["Banana", "--column", "text"], b"", "--column and --force go with a table"),
    "top of a table": (
        ["--input", "good.csv", "--output", "o.csv", "--top", "2"],
        b"",
        "--top and --json go with texts",
    ),
    "top": (["Banana", "--top", "0"], b"", "--top must be >= 1, got 0"),
    "an existing output": (["--input", "good.csv", "--output", "good.csv"], b"", "--force"),
    "another kind": (["--input", "good.csv", "--output", "o.xlsx"], b"", "o.xlsx: answers are written as one of .csv"),
    "no column": (["--input", "good.csv", "--output", "o.csv", "--column", "b"], b"", "no column 'b'; there are text"),
    "a short row": (["--input", "short.csv", "--output", "o.csv"], b"", "line 3 has 1 fields, the header 2"),
    "an open quote": (["--input", "open.csv", "--output", "o.csv"], b"", "line 2: "),
    "no JSON": (["--input", "bad.jsonl", "--output", "o.csv"], b"", "line 2 is not valid JSON"),
    "no text in JSON": (["--input", "number.jsonl", "--output", "o.csv"], b"", "line 1: text must be a text, got 7"),
    "an empty table": (["--input", "empty.csv", "--output", "o.csv"], b"", "empty.csv is empty"),
}
FILES = {
    "texts.txt": "Banana\nBonobo\nNébele",
    "good.csv": "text,n\nBanana,1\n",
    "short.csv": "text,n\nBanana,1\nBonobo\n",
    "open.csv": 'text,n\n"Banana,1\nBonobo,2\n',
    "bad.jsonl": '{"text": "Banana"}\n{"text": \n',
    "number.jsonl": '{"text": 7}\n',
    "empty.csv": "\n",
}


def started(folder, arguments, data=b"", **options):
    clean = {"PATH": os.defpath, "PYTHONIOENCODING": "utf-8"}
    closed = {"preexec_fn": lambda: os.close(0)} if data is None else {"input": data}
    options = {"stdout": subprocess.PIPE, "env": clean} | closed | options
    program = [sys.executable, "-W", "ignore", "predict.py", *arguments]
    return subprocess.run(program, cwd=folder, stderr=subprocess.PIPE, timeout=120, check=False, **options)


@pytest.mark.slow
def test_predict_py(cli, tongues):
    folder, _ = export(tongues, "onnx", Path("exported"))
    check_command_line(folder, tongues)
    check_tables(folder, tongues, cli)


def check_command_line(folder, tongues):
    """Inputs, refused inputs (one line, exit code 1, no file), and errors of stdout."""
    expected = dict(zip(NAMES, seqlab.load(tongues).predict(NAMES), strict=True))
    for name, content in FILES.items():
        (folder / name).write_text(content, "utf-8")
    for what, (arguments, data, texts) in COMMANDS.items():
        done = started(folder, arguments, data)
        assert done.returncode == 0, (what, done.stderr)
        rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
        assert [row[0] for row in rows] == texts, what
        for text, *answers in rows:
            for answer, label, probability in zip(expected.get(text, ()), answers[::2], answers[1::2], strict=False):
                assert (label, float(probability)) == (answer["label"], pytest.approx(answer["probability"], abs=1e-4))
    there = sorted(folder.iterdir())
    for what, (arguments, data, said) in REFUSED.items():
        done = started(folder, arguments, data)
        assert done.returncode == 1, what
        (line,) = done.stderr.decode().splitlines()
        assert said in line, (what, line)
        assert not done.stdout, what
    assert sorted(folder.iterdir()) == there
    assert b"one text per line" in started(folder, ["--help"]).stdout
    ascii_only = {"PATH": os.defpath, "PYTHONIOENCODING": "ascii"}
    assert started(folder, ["Nébele"], env=ascii_only).stdout.startswith(b"N\\xe9bele\t")
    with Path("/dev/full").open("wb") as full:
        done = started(folder, ["Banana"], stdout=full)
    assert (done.returncode, done.stderr.decode().splitlines()) == (1, ["No space left on device"])


TABLES = {
    "in.csv": 'id,text,note\n1,Banana,"a ""b"", c"\n2,,\n\n3,"Bono\nbo",\u2028\n',
    "semicolons.csv": "id;text\r\n1;Banana, Bonobo\r\n2;Nebele\r\n",
    "in.tsv": 'text\tn\n"Banana\t1\nBonobo\t2\n"Lala"\t3\n',
    "quoted.tsv": '"text"\t"n"\n"Bana\tna"\t1\n',
    "in.jsonl": '{"text": "Banana", "a": [1, null]}\n{"text": null, "b": 0.5}\n\n{"text": "Bo\\u00e9"}\n',
    "array.json": '[{"text": "Banana"},\n {"text": "Bonobo", "label": "x"}]',
}


def check_tables(folder, tongues, cli):
    """Tables are those of ``predict``, byte for byte, but for the last digits of probabilities."""
    for name, content in TABLES.items():
        Path(name).write_bytes(content.encode())
        for out in (f"{name}.{kind}" for kind in (("csv", "tsv", "jsonl") if name == "in.csv" else ("tsv",))):
            written = cli("predict", str(tongues), "--input", name, "--output", f"a/{out}")
            assert written.code == 0, written.err
            done = started(folder, ["--input", str(Path(name).resolve()), "--output", str(Path("b", out).resolve())])
            assert done.returncode == 0, done.stderr
            a, b = (rounded(Path(each, out).read_bytes().decode()) for each in "ab")
            assert a == b, (name, out)


def rounded(text):
    """Round what looks like a probability."""
    return re.sub(r"\b[01]\.\d{4,}(e-\d+)?\b", lambda found: f"{float(found[0]):.4f}", text)


def test_the_weights_come_with_a_card(cli, run):
    done = cli("export", str(run), "--format", "safetensors")
    assert done.code == 0, done.err
    out = run / "export" / "safetensors"
    card = (out / "README.md").read_text("utf-8")
    record = json.loads((run / "results.json").read_text("utf-8"))
    for name, value in record["metrics"]["test"].items():
        chance = record["chance"]["test"][name]
        assert f"| {name} | {value:.4f} | {chance:.4f} |" in card
    assert f"cell: `{record['config']['cell']['name']}` (hidden_size=8" in card
    assert "load_file" in card
    told = json.loads((out / "export.json").read_text("utf-8"))
    assert told["takes"]["inputs"] == {"type": "int64", "axes": ["batch", "time"]}
    assert told["plugins"]["task"]["data_dir"] == Path(record["config"]["task"]["data_dir"]).name
    assert told["gives"] == {"outputs": ["batch", 3]}
    assert told["compared"]["largest_difference"] <= 1e-5
    cli("export", str(run), "--format", "safetensors").refused("export/safetensors is there already", "--out")


def test_a_state_dict_loads_with_weights_only(cli, run):
    assert cli("export", str(run), "--format", "state-dict", "--out", "out").code == 0
    weights = torch.load("out/model.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in seqlab.load(run).model.state_dict().items())


def test_a_file_that_differs_leaves_nothing(cli, run, monkeypatch):
    """A weight is changed between writing and comparing."""
    kind = FORMATS["safetensors"]
    load = type(kind).load

    def off(self, path):
        weights = load(self, path)
        name = next(name for name in weights if "head" in name)
        return {**weights, name: weights[name] + 0.01}

    monkeypatch.setattr(type(kind), "load", off)
    before = sorted(run.rglob("*"))
    cli("export", str(run), "--format", "safetensors").refused("differs from the run by", "nothing was written")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"preprocessing": {"name": "bpe"}}, "preprocessing=bpe needs packages beyond the standard library"),
        ({"preprocessing": {"name": "words", "steps": ["html"]}}, "preprocessing=words with the steps html needs"),
    ],
)
def test_why_there_is_no_program_is_said(tongues, change, said):
    trained = seqlab.load(tongues)
    trained.nodes |= change
    found = _lacking(trained, has_encoder=not change)
    assert found is None if said is None else found.startswith(said)


def test_without_the_extra(cli, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    cli("export", str(run), "--format", "onnx").refused("onnxscript", 'pip install "seqlab[export]"')
    assert not (run / "export").exists()


def test_what_is_no_run(cli, run):
    cli("export", "nowhere", "--format", "safetensors").refused("nowhere is no folder")
    (run / "results.json").unlink()
    cli("export", str(run), "--format", "safetensors").refused("results.json")
    Path("file").write_text("")
    cli("export", str(run), "--format", "safetensors", "--out", "file").refused("file is there already")
    assert not (run / "export").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(cli, run):
    Path("locked").mkdir(mode=0o555)
    cli("export", str(run), "--format", "safetensors", "--out", "locked/out").refused("locked/out cannot be written")


def test_the_command_offers_all_formats():
    from seqlab.cli.commands.model import FORMATS as OFFERED

    assert tuple(FORMATS) == OFFERED
