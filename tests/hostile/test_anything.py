"""Arbitrary files, values and texts: read correctly, or refused in one line."""

import json
import math
import shutil
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

import seqlab
from seqlab import UserError
from seqlab.cli.tables import open_table
from seqlab.contracts.task import input_spec, label_names
from seqlab.io.safe_io import DEEPEST, check_links, check_within, escape_control, parse_json
from seqlab.io.tensors import read_header
from seqlab.plugins import plugins
from seqlab.plugins.config import build, plugin_class
from seqlab.plugins.signature import options
from seqlab.sweeps.ledger import STATES, read_entries, read_entry
from seqlab.sweeps.overrides import check_file_overrides
from seqlab.training.checkpoint import read_checkpoint

from .conftest import RUN

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
IN_A_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def depth(value):
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0


def one_line(error):
    assert str(error)
    assert "\n" not in escape_control(str(error)).strip()


# JSON ------------------------------------------------------------------------------------------------------------


@given(JSON)
def test_sound_json_is_read_as_python_reads_it(value):
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
@example(b"[" * 10**6)
@example(b'{"a":1,"a":1}')
@example(b"1e999")
@example(b"-Infinity")
@example(b"9" * 10**5)
def test_of_any_bytes_only_json_is_read(data):
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert depth(value) <= DEEPEST + 1
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@given(st.text(), st.text())
def test_control_characters_are_found_wherever_they_stand(before, after):
    for data in ({"a": [before + "\x1b" + after]}, {before + "\x9b" + after: 1}):
        with pytest.raises(ValueError, match="control character"):
            parse_json(json.dumps(data).encode(), plain=True)


# Paths -----------------------------------------------------------------------------------------------------------

PARTS = st.lists(st.sampled_from(["..", ".", "a", "out", "in", "b"]), min_size=1, max_size=5)


@IN_A_FOLDER
@given(PARTS)
def test_no_path_leads_out_of_its_folder(tmp_path, parts):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True, exist_ok=True)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to(tmp_path)
        (root / "in").symlink_to(root / "a")
    path = root.joinpath(*parts)
    try:
        given_back = check_within(root, path)
    except UserError:
        assert not path.resolve().is_relative_to(root.resolve())
    else:
        assert given_back.resolve().is_relative_to(root.resolve())


def test_wandb_may_link_its_logs(tmp_path):
    """As it does: ``logs/debug-core.log`` of each of its runs leads to the cache in the user's home."""
    logs = tmp_path / "run" / "wandb" / "offline-run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "elsewhere")
    check_links(tmp_path / "run")
    (tmp_path / "run" / "wandb" / "latest").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of"):
        check_links(tmp_path / "run")


# Tensors ---------------------------------------------------------------------------------------------------------

ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I64", "BOOL", "F99", 3]),
        "shape": st.lists(st.integers(-1, 3) | st.just(2**62), max_size=3),
        "data_offsets": st.lists(st.integers(-1, 24), min_size=2, max_size=2),
    }
)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ENTRY | JSON, max_size=3)


@IN_A_FOLDER
@given(HEADERS, st.binary(max_size=24), st.integers(-2, 2))
def test_a_header_is_believed_only_where_the_file_bears_it_out(tmp_path, header, data, lie):
    path = tmp_path / "model.safetensors"
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", max(0, len(raw) + lie)) + raw + data)
    try:
        found = read_header(path)
    except UserError as error:
        one_line(error)
        return
    sizes = {"F32": 4, "I64": 8, "BOOL": 1}
    assert sum(math.prod(each.shape) * sizes[each.dtype] for each in found.values()) == len(data)


@IN_A_FOLDER
@given(st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 4), max_size=3), max_size=4))
def test_what_safetensors_writes_is_described_as_it_reads_it(tmp_path, shapes):
    path = tmp_path / "model.safetensors"
    shapes.pop("__metadata__", None)
    path.write_bytes(save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}))
    assert {name: each.shape for name, each in read_header(path).items()} == {
        name: value.shape for name, value in load_file(path).items()
    }


# Checkpoints -----------------------------------------------------------------------------------------------------


@IN_A_FOLDER
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3), st.floats(0, 1), st.booleans())
def test_a_damaged_checkpoint_is_a_checkpoint_or_one_line(tmp_path, changes, end, cut):
    data = bytearray((RUN / "resume.ckpt").read_bytes())
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "resume.ckpt"
    path.write_bytes(bytes(data[: int(end * len(data))] if cut else data))
    try:
        assert "state_dict" in read_checkpoint(path)
    except UserError as error:
        one_line(error)


# Run folders and their config ------------------------------------------------------------------------------------


def places(value, path=()):
    """All paths of keys in a record."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


CARD = json.loads((RUN / "model.json").read_text("utf-8"))
SIZES = st.sampled_from([-1, 0, 10**6, 10**12, 2**63, 1e300, "", "../..", "os:system", "\x1b[2J", [], {}, None, True])


@settings(IN_A_FOLDER, max_examples=60)
@given(st.sampled_from(list(places(CARD))), SIZES | JSON)
def test_a_changed_card_gives_a_model_or_one_line(tmp_path, path, value):
    folder = tmp_path / "run"
    if not folder.exists():
        shutil.copytree(RUN, folder)
    card = json.loads(json.dumps(CARD))
    *outer, last = path
    inner = card
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (folder / "model.json").write_text(json.dumps(card), "utf-8")
    try:
        assert seqlab.load(folder).model is not None
    except UserError as error:
        one_line(error)


@pytest.mark.parametrize("name", [*plugins("task")])
def test_no_size_of_a_task_takes_the_memory_before_data_is_asked_for(name):
    whole = [option.name for option in options(plugin_class("task", name)) if option.annotation in (int, int | None)]
    for option in whole:
        try:
            task = build("task", {"name": name, option: 10**9})
            _ = input_spec(task), label_names(task) if name not in ("names", "textclf", "pixels") else None
        except (UserError, ValueError) as error:
            one_line(error)


@given(
    st.text(max_size=40) | st.sampled_from(["hydra.job.name=a", "hydra.launcher.n_jobs=2", "cell=gru", "~hydra.run"])
)
def test_words_of_a_plan_reach_nothing_of_hydra_but_what_says_how_much(word):
    try:
        check_file_overrides([word], "sweep.json", "repeat it")
    except UserError as error:
        one_line(error)
    else:
        key = word.partition("=")[0].lstrip("+~")
        assert "hydra" not in key.lower() or key.startswith(("hydra.launcher.", "hydra.sweeper.", "hydra/"))


@IN_A_FOLDER
@given(JSON | st.dictionaries(st.sampled_from(["state", "words", "cause", "objective", "seconds", "job"]), JSON))
def test_any_record_of_a_run_is_an_entry(tmp_path, record):
    (tmp_path / "run.json").write_text(json.dumps(record), "utf-8")
    entry = read_entry(tmp_path)
    assert entry.state in STATES
    assert entry.cause is None or isinstance(entry.cause, str)


@IN_A_FOLDER
@given(JSON, st.sampled_from(["words", "runs", "working_folder", "schema"]))
def test_any_plan_of_a_sweep_is_a_list_of_runs_or_one_line(tmp_path, value, key):
    plan = {"schema": 1, "words": ["cell=gru"], "working_folder": "/", "runs": [], "open": False, key: value}
    (tmp_path / "sweep.json").write_text(json.dumps(plan), "utf-8")
    try:
        assert isinstance(read_entries(tmp_path), list)
    except UserError as error:
        one_line(error)


# Data ------------------------------------------------------------------------------------------------------------


@IN_A_FOLDER
@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_bytes_are_a_table_or_one_line(tmp_path, data, ending):
    path = tmp_path / f"table{ending}"
    path.write_bytes(data)
    try:
        table = open_table(path)
        assert len(list(table.rows())) == table.count
    except UserError as error:
        one_line(error)


@pytest.fixture(scope="module")
def trained():
    return seqlab.load(RUN)


@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_any_text_has_an_answer_or_nothing_in_it_to_read(trained, texts):
    if not all(trained.encode(texts).lengths):
        with pytest.raises(UserError, match="has nothing in it to read"):
            trained.predict(texts)
        return
    answers = trained.predict(texts, top=18)
    for answer in answers:
        assert sum(each["probability"] for each in answer) == pytest.approx(1, abs=1e-4)
