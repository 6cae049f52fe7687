"""Hostile inputs, each against the verbs that it concerns: one line, exit code 1, and nothing ran, grew or escaped."""

import os
import re
import subprocess
import sys

import pytest

from . import files, large, places, values, words
from .attack import MARK

SECONDS = 30.0

CLASSES = {
    "pickles": files.PICKLES,
    "imports": files.NAMES,
    "headers of tensors": files.HEADERS,
    "pages of JSON": files.PAGES,
    "links": places.PATHS,
    "names that are paths": places.NAMED_PATHS,
    "archives": places.ARCHIVES,
    "tables": values.TABLES,
    "sizes": values.SIZES,
    "vocabularies": values.VOCABULARIES,
    "plans of sweeps": words.SWEEPS,
    "pages of sweeps": words.LEDGERS,
    "recipes": words.RECIPES,
    "config folders": words.CONFIGS,
    "versions": words.VERSIONS,
    "checkpoints": large.CHECKPOINTS,
    "words that reach far": large.FAR,
    "interpolations": large.INTERPOLATIONS,
    "what has no end": large.ENDLESS,
}
ALL = {attack.tries: attack for attacks in CLASSES.values() for attack in attacks}
ALONE = [
    "an archive of torch with a payload in the place of resume.ckpt",
    "two million empty lists fill the memory",
    *(
        pytest.param(tries, marks=pytest.mark.long)
        for tries in (
            "a file of ten terabytes is a hole",
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


def refused(code, out, err, says):
    text = err if err.strip() else out
    assert code == 1, (out, err)
    assert "Traceback" not in out + err
    told = [line for line in text.strip().split("\n") if re.search(says, line)]
    assert told, text
    assert "\x1b" not in out + err
    assert len(text) < 5_000


@pytest.mark.parametrize("tries", ALL)
def test_an_attack_is_refused_in_one_line(tries, target, call):
    attack = ALL[tries]
    attack.build(target)
    for arguments in attack.calls:
        code, out, err, taken = call(*arguments)
        refused(code, out, err, attack.says)
        if arguments[0] not in ("status", "report"):
            assert len(err.strip().split("\n")) == 1, err
        assert taken < SECONDS
        unharmed(target)


PROGRAM = """
import os, resource, sys
import torch, pytorch_lightning, seqlab.cli.train, seqlab.training.run, seqlab.inference.loading  # the baseline
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 30,) * 2)
sys.argv = ["seqlab", *sys.argv[1:]]
from seqlab.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("tries", ALONE)
def test_an_attack_is_refused_by_a_process_of_its_own(tries, target):
    attack = ALL[tries]
    attack.build(target)
    command = [sys.executable, "-c", PROGRAM, *attack.calls[0]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, timeout=290)
    refused(done.returncode, done.stdout, done.stderr, attack.says)
    unharmed(target)
