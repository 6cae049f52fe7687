"""The command line in this process, and what it composes as flat mappings."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import seqlab_conf
from seqlab.__main__ import main

HERE = Path(__file__).parent
SET_BY_MAIN = ("HYDRA_FULL_ERROR", "SEQLAB_SET_FULL_ERROR")


def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``python -m seqlab <arguments>`` in this process; return the exit code, stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    environment = {key: value for key, value in os.environ.items() if key not in SET_BY_MAIN}
    with (
        mock.patch.object(sys, "argv", ["seqlab", *arguments]),
        mock.patch.dict(os.environ, environment, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            GlobalHydra.instance().clear()
            for handler in list(logging.getLogger().handlers):
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    logging.getLogger().removeHandler(handler)
    return code, out.getvalue(), err.getvalue()


def done(*arguments: str) -> str:
    """Run a command that has to succeed; return stdout."""
    code, out, err = run(*arguments)
    assert code == 0, f"{arguments}\n{out}\n{err}"
    return out


def parsed(text: str) -> list[Any]:
    """Parse JSON values that follow one another."""
    found: list[Any] = []
    while text := text.lstrip():
        value, end = json.JSONDecoder().raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def flat(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; lists and empty mappings are values, import paths (``_target_``) are left out."""
    if not isinstance(node, Mapping) or not node:
        yield key, node
        return
    for name, value in node.items():
        if name != "_target_":
            yield from flat(value, f"{key}.{name}" if key else str(name))


def same(one: Any, other: Any) -> bool:
    """Return whether two plain values are the same; 1, a number of batches, is not 1.0, all of them."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a run's config, resolved, and what is chosen of Hydra's own groups.

    Of Hydra's node only the choices, and a sweeper or launcher of ours: the rest is Hydra's, the working folder's or
    the clock's.
    """
    node = OmegaConf.create(done(*overrides, "--cfg", "all"))
    assert isinstance(node, DictConfig)
    hydra = OmegaConf.to_container(node.pop("hydra"), resolve=False)
    config = OmegaConf.to_container(node, resolve=True)
    chosen = hydra["runtime"]["choices"]
    choices = {
        group: choice
        for group, choice in chosen.items()
        if not group.startswith("hydra/") or group in ("hydra/launcher", "hydra/sweeper")
    }
    ours = {kind: hydra[kind] for kind in ("launcher", "sweeper") if chosen[f"hydra/{kind}"] != "basic"}
    return dict(flat(config)) | dict(flat({"hydra": {"choices": choices, **ours}}))


def recipes(renamed: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the overrides of each row of each recipe, in full and for a quick try."""
    key = renamed.get("reproduce.words", "words")
    root = Path(seqlab_conf.__file__).parent / "reproduce"
    for path in sorted(root.rglob("*.yaml")):
        recipe = yaml.safe_load(path.read_text("utf-8"))
        for row in recipe["rows"]:
            overrides = [*recipe[key], *row[key]]
            name = f"{path.relative_to(root).with_suffix('').as_posix()}: {row['label']}"
            yield name, overrides
            yield f"{name}, quick", [*overrides, *recipe["quick"]]
