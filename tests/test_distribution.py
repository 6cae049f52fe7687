"""What is given away: a wheel and an sdist that work where no repository is."""

import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
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


def environment(folder, wheel, links):
    """A new environment with the wheel, and with links to packages of this one, but without this repository."""
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    for link, path in links.items():
        (packages / link).parent.mkdir(exist_ok=True)
        (packages / link).symlink_to(path)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--no-deps", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    """With all that it depends on."""
    links = {}
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if path.name == "hydra_plugins":  # of many distributions: what is installed into it must not come back here
            links |= {f"{path.name}/{part.name}": part for part in path.glob("hydra_*")}
        elif "seqlab" not in path.name and path.suffix != ".pth":
            links[path.name] = path
    return environment(tmp_path_factory.mktemp("elsewhere"), built[0], links)


def with_requirements(names: Iterable[str]) -> set[str]:
    """Names of distributions and, recursively, of what they require without an extra."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            required = [each for each in distribution(name).requires or [] if ";" not in each]
            left += [re.match(r"[\w.-]+", each)[0] for each in required]
    return found


@pytest.fixture(scope="module")
def light(built, tmp_path_factory):
    """With the packages that docs/start/install.md names for the layers alone, and what those require."""
    page = (ROOT / "docs" / "start" / "install.md").read_text("utf-8")
    named = re.search(r"^    pip install -c constraints\.txt (torch [\w -]+)$", page, re.MULTILINE)[1].split()
    links = {}
    for name in with_requirements(named):
        tops = {file.parts[0] for file in distribution(name).files if file.parts[0] not in ("..", "__pycache__")}
        links |= {top: distribution(name).locate_file(top) for top in tops}
    return environment(tmp_path_factory.mktemp("light"), built[0], links)


def test_the_wheel_carries_code_config_plugins_and_data(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    for name in (
        "seqlab/templates/cell/module.py.in", "seqlab/py.typed", "seqlab_conf/config.yaml",
        "seqlab_conf/trainer/ddp.yaml",
        "seqlab_cells/lstm.py", "seqlab_cells/fused/scan.cpp", "seqlab_tasks/data/names/Greek.txt",
        "seqlab_tasks/data/reviews/reviews.jsonl", "hydra_plugins/seqlab_sweeps/_sweepers.py",
        "hydra_ledger/records.py", "hydra_plugins/hydra_ledger/__init__.py",
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


LAYERS = """
import importlib.util, sys
import torch
import seqlab.nn
from seqlab.study.modules import effective_context, record

for name in ("pytorch_lightning", "hydra", "omegaconf", "wandb", "matplotlib", "torchmetrics", "rich"):
    assert importlib.util.find_spec(name) is None, name
model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LSTM(3, 4, 2))
assert [each.kept for each in seqlab.nn.replace(model)] == [None]
x = torch.randn(7, 2, 3)
with record(model) as recorded:
    model(x)[0].square().mean().backward()
assert recorded.flow("1").curve(0)
assert effective_context(lambda last: model(last)[0][-1].square().mean(), x, axis=0).steps >= 1
lstm = seqlab.nn.LSTM(3, 4, kernel=sys.argv[1])
output, _ = lstm(x, lengths=[7, 3])
output.sum().backward()
print(lstm.choice.kernel.name, seqlab.nn.__file__)
"""


@pytest.mark.parametrize("kernel", ["loop", "fused"])
def test_the_layers_work_where_only_torch_is(light, kernel, tmp_path):
    """Without Lightning, Hydra, wandb and matplotlib: replacement, analysis, the loop and the fused kernel."""
    done = subprocess.run([light, "-I", "-W", "error", "-c", LAYERS, kernel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, place = done.stdout.split()
    assert name == kernel
    assert place.startswith(str(light.parents[1]))
