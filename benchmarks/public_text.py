"""Accuracy on public text sets: a model of seqlab, and TF-IDF with logistic regression of scikit-learn.

    python benchmarks/public_text.py --data FOLDER                      model=bow on ten sets, five splits
    python benchmarks/public_text.py --data FOLDER --model default      the default recurrent model
    python benchmarks/public_text.py --data FOLDER --model default --sets sms trec -- model.pooling=max
    python benchmarks/public_text.py --data FOLDER --model default --score valid --splits 1     without a test score

Missing files are downloaded into FOLDER, and verified. Both learn from the same training texts (given splits are
pooled), choose on the same validation texts, and score the same test texts once. Finished runs are not repeated.
``--score valid`` is to choose defaults by: the best validation accuracy of each, and the test texts are not scored.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from scipy.stats import t as student
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

import seqlab
from seqlab.config.schema import plain_config
from seqlab.io.atomic import write_json
from seqlab.sweeps.plan import run_name
from seqlab.training.run import train
from seqlab.training.session import prepare_data
from seqlab_tasks.download import fetch_files

GITHUB = "https://raw.githubusercontent.com/"
SENTENCES = f"{GITHUB}harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
LINES = ("task.header=none", "task.quoting=none", "task.encoding=cp1252", "task.text_column=2", "task.label_column=1")


@final
@dataclass(frozen=True)
class PublicSet:
    """Labelled texts.

    Attributes:
        url: prefix of the addresses of the files.
        files: SHA-256 of each file.
        options: overrides that read it.
        is_spaced: whether each line is a label, a space and a text; otherwise the only file is a table.
    """

    url: str
    files: Mapping[str, str]
    options: Sequence[str] = LINES
    is_spaced: bool = False

    def table(self, name: str, folder: Path, work: Path) -> Path:
        """Return the table of a set whose files are in a folder; lines are written to one with tabs."""
        if not self.is_spaced:
            (file,) = self.files
            return folder / file
        lines = [line for file in self.files for line in (folder / file).read_bytes().split(b"\n") if line]
        path = work / f"{name}.tsv"
        work.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(line.replace(b" ", b"\t", 1) + b"\n" for line in lines))
        return path


SETS = {
    "ag_news": PublicSet(
        f"{GITHUB}mhjabreel/CharCnn_Keras/555590db4219b1243abb1918effd6a7425a2d75f/data/ag_news_csv/",
        {"test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"},
        ("task.header=none", "task.text_column=[2,3]", "task.label_column=1"),
    ),
    "films": PublicSet(
        SENTENCES,
        {"rt-polarity.all": "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a"},
        is_spaced=True,
    ),
    "sst2": PublicSet(
        SENTENCES,
        {
            "stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
            "stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
            "stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
        },
        (*LINES, "task.encoding=utf-8"),
        is_spaced=True,
    ),
    "sms": PublicSet(
        f"{GITHUB}justmarkham/pycon-2016-tutorial/5339710562cc46c4a32a369d63f1e8751a18a54e/data/",
        {"sms.tsv": "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"},
        (*LINES, "task.encoding=utf-8"),
    ),
    "tweets": PublicSet(
        f"{GITHUB}shaoncse/covid-tweet-nlp-analysis/cd74532a306007a9df6e9b0b69fff796de7e266f/",
        {"Corona_NLP_test.csv": "7c1e004c8a4817d7a1476a35f85f192e76d1e0ce3d15df1e6509754938d5ea03"},
        ("task.text_column=OriginalTweet", "task.label_column=Sentiment"),
    ),
    "trec": PublicSet(
        SENTENCES,
        {
            "TREC.train.all": "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e",
            "TREC.test.all": "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566",
        },
        is_spaced=True,
    ),
    "customers": PublicSet(
        SENTENCES,
        {"custrev.all": "a3839a79bd3285177a07158c6104b49038a7a06ab2abe897734cde5d22e5e325"},
        is_spaced=True,
    ),
    "mpqa": PublicSet(
        SENTENCES,
        {"mpqa.all": "661de8a069da4b9845fc8b9ae59cc97ffe554f3018fa6bf0e640e3d626a4eaf7"},
        is_spaced=True,
    ),
    "subjective": PublicSet(
        SENTENCES,
        {"subj.all": "f3ffbe2aa8e4f3ba3e63e46dce51613854edbca122fb3aa758b9bce047ded23c"},
        is_spaced=True,
    ),
    "arabic": PublicSet(
        f"{GITHUB}komari6/Arabic-twitter-corpus-AJGT/19f8d21a400ee23d519ee71c59e556687e72f927/",
        {"AJGT.xlsx": "966c52213872b6b8a3ced5fb7c60aee2abf47ca673c7d2c2eeb064a60bc9ed51"},
        ("task.text_column=Feed", "task.label_column=Sentiment"),
    ),
}
"""AG News (its test file), film reviews (Pang & Lee 2005), SST-2, SMS spam, tweets of five classes, TREC questions,
customer reviews, MPQA, subjectivity, and Arabic tweets (AJGT; needs openpyxl)."""

MODELS = {"bow": ("model=bow",), "default": ()}
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Values of scikit-learn's ``C``; 1 is its default."""


def scores_of_scikit_learn(
    texts: Mapping[str, Sequence[str]], targets: Mapping[str, Any], split: str = "test"
) -> dict[str, Any]:
    """Return scores of words and pairs of words with logistic regression.

    Args:
        texts: of each split.
        targets: class of each text.
        split: that is scored.

    Returns:
        The scores at the default penalty, and at the one with the least cross-entropy on validation.
    """
    vectoriser = TfidfVectorizer(ngram_range=(1, 2))
    train = vectoriser.fit_transform(texts["train"])
    held_out = {name: vectoriser.transform(texts[name]) for name in {"valid", split}}
    found, losses = {}, {}
    for c in PENALTIES:
        fitted = LogisticRegression(C=c, max_iter=1000).fit(train, targets["train"])
        losses[c] = log_loss(targets["valid"], fitted.predict_proba(held_out["valid"]), labels=fitted.classes_)
        predicted = fitted.predict(held_out[split])
        found[c] = {
            "accuracy": float((predicted == targets[split]).mean()),
            "macro_f1": float(f1_score(targets[split], predicted, average="macro")),
        }
    return {"default": found[PENALTIES[0]], "chosen": found[min(losses, key=losses.__getitem__)]}


def scikit_learn(folder: Path, overrides: Sequence[str], split: str) -> dict[str, Any]:
    """Return the scores of scikit-learn on the data of a run, computed if missing."""
    path = folder / ("scikit_learn.json" if split == "test" else f"scikit_learn_{split}.json")
    if not path.is_file():
        _, data = prepare_data(plain_config(seqlab.compose(list(overrides))))
        targets = {name: examples[1].numpy() for name, examples in data.encoded.items()}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, scores_of_scikit_learn(data.texts, targets, split))
    scores: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return scores


def record(folder: Path, overrides: Sequence[str], split: str) -> dict[str, float]:
    """Return the scores of a run, whose config names its folder, and ``majority``; it is done if missing."""
    config = seqlab.compose([*overrides, "task.baseline=none", "logger=none", "trainer.progress=false"])
    place = folder / run_name(config)
    if split == "test":
        if not (place / "results.json").is_file():
            seqlab.run(config, place)
        results = json.loads((place / "results.json").read_text("utf-8"))
        return {**results["metrics"]["test"], "majority": results["chance"]["test"]["accuracy"]}
    path = folder / f"{place.name}_{split}.json"
    if not path.is_file():
        write_json(path, {**train(config, place), "majority": majority(config)})
    scores: dict[str, float] = json.loads(path.read_text("utf-8"))
    return scores


def majority(config: Any) -> float:
    """Return the share of validation texts of the class that most training texts have."""
    _, data = prepare_data(plain_config(config))
    most = data.encoded["train"][1].mode().values
    return float((data.encoded["valid"][1] == most).float().mean())


HEADER = """\
| set | majority | accuracy | scikit-learn | macro F1 | scikit-learn | difference of accuracy | worst |
|---|---|---|---|---|---|---|---|"""
"""Of the table: means over splits, of scikit-learn at the penalty of the higher accuracy; the mean difference with its
95 % interval, and the lowest."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t."""
    if len(values) < 2:
        return values[0], float("nan")
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(half)


def mean(records: Iterable[Mapping[str, float]], metric: str) -> float:
    """Return the mean of a metric."""
    return statistics.mean(one[metric] for one in records)


def row(
    name: str, runs: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, Any]]
) -> tuple[str, float, float]:
    """Return a row of the table, the mean difference to scikit-learn and that to the majority class."""
    best = max(([other[way] for other in others] for way in others[0]), key=lambda way: mean(way, "accuracy"))
    differences = [one["accuracy"] - other["accuracy"] for one, other in zip(runs, best, strict=True)]
    centre, half = interval(differences)
    most = mean(runs, "majority")
    cells = [name, f"{most:.3f}"]
    cells += [f"{mean(way, metric):.3f}" for metric in ("accuracy", "macro_f1") for way in (runs, best)]
    cells += [f"{centre:+.3f} ± {half:.3f}", f"{min(differences):+.3f}"]
    return f"| {' | '.join(cells)} |", centre, mean(runs, "accuracy") - most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the published files")
    parser.add_argument("--model", choices=list(MODELS), default="bow")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--score", choices=["test", "valid"], default="test", help="split that is scored")
    parser.add_argument("--out", type=Path, default=Path("runs/public_text"))
    parser.add_argument("overrides", nargs="*", help="config overrides of the model, after --")
    asked = parser.parse_args()
    lines, gains, above = [HEADER], [], []
    for name in asked.sets:
        chosen = SETS[name]
        path = chosen.table(name, fetch_files(chosen.url, chosen.files, asked.data / name), asked.out / "tables")
        runs, others = [], []
        for split in range(asked.splits):
            data = ["task=textclf", f"task.data='{path}'", *chosen.options, f"task.split_seed={split}"]
            since = time.perf_counter()
            others.append(scikit_learn(asked.out / "scikit_learn" / name / f"split_{split}", data, asked.score))
            model = [*data, *MODELS[asked.model], *asked.overrides, f"seed={split}"]
            runs.append(record(asked.out / "runs" / name, model, asked.score))
            accuracies = f"{runs[-1]['accuracy']:.4f}, {others[-1]['chosen']['accuracy']:.4f}"
            print(f"{name}, split {split}: {accuracies} ({time.perf_counter() - since:.0f} s)", flush=True)
        line, gain, margin = row(name, runs, others)
        lines.append(line)
        gains.append(gain)
        above.append(margin)
    print(*lines, sep="\n")
    print(f"at most a point below on {sum(gain >= -0.01 for gain in gains)} of {len(gains)} sets, ", end="")
    print(f"difference {statistics.mean(gains):+.4f} in the mean, at least {min(above):+.3f} above the majority class")


if __name__ == "__main__":
    main()
