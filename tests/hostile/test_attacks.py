"""Hostile inputs to the commands that read them: one line, exit code 1; nothing runs, grows or leaves its folder."""

import os
import re
import subprocess
import sys

import pytest

from . import files, large, overrides, places, values
from .attack import MARK

SECONDS = 30.0

CLASSES = {
    "pickles": files.PICKLES,
    "imports": files.NAMES,
    "headers of tensors": files.HEADERS,
    "JSON files": files.JSON_FILES,
    "links": places.PATHS,
    "names that are paths": places.NAMED_PATHS,
    "archives": places.ARCHIVES,
    "tables": values.TABLES,
    "sizes": values.SIZES,
    "vocabularies": values.VOCABULARIES,
    "plans of sweeps": overrides.SWEEPS,
    "records of sweeps": overrides.RECORDS,
    "recipes": overrides.RECIPES,
    "config folders": overrides.CONFIGS,
    "versions": overrides.VERSIONS,
    "checkpoints": large.CHECKPOINTS,
    "overrides that reach far": large.FAR,
    "interpolations": large.INTERPOLATIONS,
    "endless files": large.ENDLESS,
}
ALL = {attack.name: attack for attacks in CLASSES.values() for attack in attacks}
ALONE = [
    "an archive of torch with a payload in the place of resume.ckpt",
    "two million empty lists fill the memory",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in (
            "a file of ten terabytes is sparse",
            "a hundred megabytes are packed into a small npz",
            "a plan's launcher is a function to import",
            "a label would set the terminal's title",
        )
    ),
]
"""Those that are tried by a process of its own as well."""


def test_there_are_enough_of_each_and_not_too_many():
    assert len(ALL) == sum(map(len, CLASSES.values())) >= 40
    assert len(CLASSES) >= 8
    assert max(map(len, CLASSES.values())) <= 6


def unharmed(folder):
    assert not list(folder.rglob(MARK))
    assert [path.name for path in (folder / "outside").iterdir()] == ["precious"]
    assert (folder / "outside" / "precious").read_text() == "as it was"


def refused(code, out, err, message):
    text = err if err.strip() else out
    assert code == 1, (out, err)
    assert "Traceback" not in out + err
    told = [line for line in text.strip().split("\n") if re.search(message, line)]
    assert told, text
    assert "\x1b" not in out + err
    assert len(text) < 5_000


@pytest.mark.parametrize("name", ALL)
def test_an_attack_is_refused_in_one_line(name, target, call):
    attack = ALL[name]
    attack.build(target)
    for arguments in attack.commands:
        code, out, err, taken = call(*arguments)
        refused(code, out, err, attack.message)
        if arguments[0] not in ("status", "report"):
            assert len(err.strip().split("\n")) == 1, err
        assert taken < SECONDS
        unharmed(target)


PROGRAM = """
import os, resource, sys
import torch, pytorch_lightning, seqlab.cli.train, seqlab.training.run, seqlab.inference  # the baseline
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 30,) * 2)
sys.argv = ["seqlab", *sys.argv[1:]]
from seqlab.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_an_attack_is_refused_by_a_process_of_its_own(name, target):
    attack = ALL[name]
    attack.build(target)
    command = [sys.executable, "-c", PROGRAM, *attack.commands[0]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, timeout=290)
    refused(done.returncode, done.stdout, done.stderr, attack.message)
    unharmed(target)
