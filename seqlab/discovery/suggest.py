"""Suggestions for a key that does not exist: ``lr`` is ``optimizer.lr``, ``epochs`` is ``trainer.max_epochs``."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_OTHER_NAMES = {
    "accelerator": ("gpu", "cuda"),
    "accumulate_grad_batches": ("accumulate", "grad_accum", "gradient_accumulation_steps"),
    "batch_size": ("bs", "batch", "batches", "batchsize", "train_batch_size"),
    "bidirectional": ("bi", "bidir", "birnn"),
    "ckpt_path": ("ckpt", "checkpoint", "resume", "resume_from"),
    "depth": ("layers", "num_layers", "n_layers", "nlayers"),
    "devices": ("device", "gpus", "num_gpus"),
    "dropout": ("drop", "p_drop", "dropout_rate"),
    "early_stopping": ("patience", "earlystopping"),
    "embedding_size": ("emb", "embed", "embedding", "embedding_dim", "emb_size", "embed_size"),
    "gradient_clip_val": ("clip", "clip_grad", "grad_clip", "gradient_clip", "max_norm", "clip_norm"),
    "hidden_size": ("hidden", "units", "n_hidden", "hidden_dim", "hidden_units", "nhid", "hiddensize"),
    "hydra.run.dir": ("out", "output", "out_dir", "output_dir", "run_dir", "save_dir", "dir", "folder"),
    "init_from": ("pretrained", "finetune", "init", "load"),
    "lr": ("learning_rate", "learningrate", "eta", "max_lr", "base_lr"),
    "max_epochs": ("epochs", "epoch", "num_epochs", "n_epochs", "max_epoch", "nepochs"),
    "max_steps": ("steps", "step", "num_steps", "n_steps", "iterations", "max_step"),
    "optimizer": ("optim", "optimiser", "opt"),
    "preprocessing": ("tokenizer", "tokeniser", "preprocess", "preprocessor"),
    "schedule": ("scheduler", "lr_schedule", "lr_scheduler", "sched"),
    "seed": ("seeds", "random_seed", "random_state", "manual_seed"),
    "sequence_length": ("seq_len", "seq_length", "seqlen", "max_len", "max_length", "length", "bptt"),
    "task": ("dataset", "tasks", "problem"),
    "threads": ("num_threads", "n_threads", "cpus", "n_jobs"),
    "weight_decay": ("wd", "decay", "l2"),
    "workers": ("num_workers", "n_workers"),
}
"""Names that other libraries give to our keys."""
_ALWAYS = ("hydra.run.dir",)


def keys_of(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """List all keys of nested mappings, dotted."""
    found: list[str] = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += keys_of(value, f"{prefix}{key}.")
    return found


def suggested(key: str, known: Iterable[str]) -> list[str]:
    """Find the keys that may have been meant, the likeliest first, three at most.

    Args:
        key: dotted, as it was typed.
        known: all keys there are, dotted.
    """
    keys = [*known, *_ALWAYS]
    parent, _, last = key.lower().replace("-", "_").rpartition(".")
    last_of = {each: each.rpartition(".")[2] for each in keys}
    siblings = {name: each for each, name in last_of.items() if each.rpartition(".")[0] == parent}
    if close := difflib.get_close_matches(last, siblings, n=1, cutoff=0.75):
        return [siblings[close[0]]]
    meant = {last, *(name for name, others in _OTHER_NAMES.items() if last in others)}
    if not parent.startswith("hydra") and (same := [each for each in keys if last_of[each] in meant or each in meant]):
        return sorted(same, key=lambda each: (each.rpartition(".")[0] != parent, len(each)))[:3]
    if close := difflib.get_close_matches(last, siblings, n=1, cutoff=0.65):
        return [siblings[close[0]]]
    if parent.startswith("hydra"):
        return []
    close = difflib.get_close_matches(last, set(last_of.values()), n=1, cutoff=0.75)
    return [each for each in keys if close and last_of[each] == close[0]][:3]


def no_such_key(key: str, known: Iterable[str]) -> str:
    """Write the message for a key that does not exist.

    Args:
        key: dotted.
        known: all keys of the config, dotted.
    """
    keys = [each for each in known if each != key]
    parent = key.rpartition(".")[0]
    there = [each.rpartition(".")[2] for each in keys if each.rpartition(".")[0] == parent]
    line = f"{key}: there is no such key"
    if found := suggested(key, keys):
        line += f"; did you mean {' or '.join(found)}?"
    if there:
        line += f"{' ' if found else '; '}{parent or 'the config'} has {', '.join(there)}"
    return line
