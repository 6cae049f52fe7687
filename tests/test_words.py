"""Plain technical English: no coined word in code, messages, help and docs, and no lecture deck by number."""

import ast
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from .test_tree import ROOT, sources

PHRASES = {
    "how far it came": "test score",
    "what it scored": "test score",
    "opponent": "baseline",
    "chance line": "majority-class baseline",
    "ignoring (?:the|its) input": "input-independent baseline",
    r"(?<!colour-)\bblind\b": "baseline_outputs",
    "at chance": "no better than baseline",
    r"\bverbs?\b": "command",
    r"\bby heart\b": "overfit batches",
    r"\bdead row": "dummy row",
    "Write letters small": "Lower-case text",
    "Put a space for emoji": "Replace emoji with a space",
    "Put right what was read": "Repair mojibake",
    r"\bslips? of\b": "common bug",
    r"\bdecks?\b": "a paper or a page",
    r"\bslides?\b": "a paper or a page",
    "prove that a plugin": "run the conformance tests",
    "proving a plugin": "run the conformance tests",
    "What was found": "Results",
    "What it was made of": "Setup",
    "What is not in it": "Missing runs",
    "to beyond": ">=",
    "to not met": "upper bound not reached",
    r"means? nothing to it": "is ignored with",
    "as far as is known": "fastest available",
    r"fused waits": "fused kernel not compiled",
    r"how much of it is luck": "run more seeds",
    "gates alone": "forget-gate product",
    "texts of blanks": "empty texts",
    r"\bas it were\b": "say it directly",
    r"\bconduct(?:s|ed|or)?\b": "run, SearchRunner",
    r"\bcampaigns?\b": "benchmark record",
    r"\b(?:its|own|folder's) page\b": "run record, status",
}
"""Regular expressions of phrases that are not used, and what is written instead."""

NAMES = {
    "talk", "hear", "together", "Work", "Conductor", "conduct", "Line", "again", "solid", "bounded", "between",
    "Around", "readiness", "Readiness", "postpones", "observe", "blind", "blind_outputs", "alive", "blank", "leaf",
    "leaves", "Pull", "Tail", "opponent", "whose",
}  # fmt: skip
"""Identifiers that are not used for functions, classes, parameters and modules."""

OF_SENTENCES = {"docs/do/distances.md", "plugins/seqlab_tasks/sentences.py"}
"""Files about subjects and verbs."""

STORED = {"at chance"}
"""Values of ``results.json``, which keep their spelling for readers of older records."""

DOCS = [name for name in sources(".md", ".yaml", ".in") if name != "CHANGELOG.md" and not name.startswith("tests/")]
CODE = [name for name in sources(".py") if name.startswith(("seqlab/", "plugins/", "docs/", "benchmarks/", "conf/"))]


@cache
def prose(name: str) -> list[tuple[int, str]]:
    """The strings and comments of a module, or the lines of any other file."""
    path = ROOT / name
    if path.suffix != ".py":
        return list(enumerate(path.read_text("utf-8").splitlines(), start=1))
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT)}
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


def names(path: Path) -> set[str]:
    """The names of functions, classes and parameters of a module, and its own."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    return defined | {node.arg for node in nodes if isinstance(node, ast.arg)} | {path.stem}


def _without_stored(text: str) -> str:
    return re.sub("[\"'`]+(" + "|".join(STORED) + ")[\"'`]+", "", text)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_not_used(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    found = [
        f"{name}:{number}: {text.strip()[:100]}"
        for name in DOCS + CODE
        for number, text in prose(name)
        if pattern.search(_without_stored(text)) and not ("verb" in phrase and name in OF_SENTENCES)
    ]
    assert found == [], f"write: {PHRASES[phrase]}"


def test_no_name_is_coined() -> None:
    found = {name: sorted(names(ROOT / name) & NAMES) for name in CODE}
    assert {name: coined for name, coined in found.items() if coined} == {}
