"""What is given away: a wheel and an sdist that work where no repository is."""

import json
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import seqlab

ROOT = Path(__file__).resolve().parents[1]
SMOKE = """
import json, sys
import seqlab, seqlab_cells, seqlab_conf
quick = ["debug=limit", "trainer.max_epochs=1", "trainer.progress=false", "cell.hidden_size=8", "trainer.threads=1"]
result = seqlab.run(seqlab.compose(["cell=gru", "task=names", *quick]), "run")
answers = seqlab.load("run").predict(["Satoshi"])
places = [module.__file__ for module in (seqlab, seqlab_cells, seqlab_conf)]
print(json.dumps({"places": places, "version": seqlab.__version__, "answers": len(answers[0]), "prefix": sys.prefix}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist, and the wheel out of the sdist, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    """A new environment with the wheel, and with what it depends on, but without this repository."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if path.name == "hydra_plugins":  # of many distributions: what is installed into it must not come back here
            (packages / path.name).mkdir()
            for part in path.glob("hydra_*"):
                (packages / path.name / part.name).symlink_to(part)
        elif "seqlab" not in path.name and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--no-deps", str(built[0])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def test_the_wheel_carries_code_config_plugins_and_data(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    for name in (
        "seqlab/templates/cell/module.py.in", "seqlab/py.typed", "seqlab_conf/config.yaml",
        "seqlab_conf/trainer/ddp.yaml",
        "seqlab_cells/lstm.py", "seqlab_cells/fused/scan.cpp", "seqlab_tasks/data/names/Greek.txt",
        "seqlab_tasks/data/reviews/reviews.jsonl", "hydra_plugins/seqlab_sweeps/_sweepers.py",
    ):  # fmt: skip
        assert name in names
    assert "hydra_plugins/__init__.py" not in names, "it would hide the plugins of others"
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def test_the_sdist_carries_tests_and_docs(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "constraints.txt", "CHANGELOG.md", "docs/conf.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith(("docs/_build", ".venv", "runs", "docs/reference/generated"))]


def test_the_version_is_the_one_of_the_code(built):
    for path in built:
        assert f"seqlab-{seqlab.__version__}" in path.name


def test_it_trains_and_predicts_where_no_repository_is(elsewhere, tmp_path):
    done = subprocess.run([elsewhere, "-I", "-c", SMOKE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["version"] == seqlab.__version__
    assert told["answers"] == 3
    assert all(place.startswith(told["prefix"]) for place in told["places"])
    assert (tmp_path / "run" / "results.json").is_file()
