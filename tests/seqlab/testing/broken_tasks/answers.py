"""Tasks with one fault each, in what a user sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqlab import ClassificationTask, Report, ReportingTask, Task

from ..good_tasks import TwoClasses


class DecodesTensors(TwoClasses):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [{"label": row.argmax()} for row in outputs]


class DecodesTheFirstRow(TwoClasses):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return super().decode(outputs[:1], top)


class DecodesByTheBatch(TwoClasses):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.softmax(0).tolist()


class DecodesAllClasses(TwoClasses):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return super().decode(outputs, 2)


class DecodesByTheAlphabet(TwoClasses):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [sorted(self.labels)[:top] for _ in outputs]


class NamesLabelsWithoutDecodingThem(TwoClasses, ClassificationTask):
    def label_names(self):
        return self.labels


class NamesLabelsInAnotherOrder(TwoClasses, ClassificationTask):
    def label_names(self):
        return self.labels[::-1]

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [[{"label": label, "probability": 0.5} for label in row] for row in super().decode(outputs, top)]


class GivesScoresForProbabilities(TwoClasses, ClassificationTask):
    """Each between 0 and 1, and together anything."""

    def label_names(self):
        return self.labels

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        rows = outputs.sigmoid().tolist()
        order = outputs.argsort(-1, descending=True)[:, :top].tolist()
        return [
            [{"label": self.labels[index], "probability": row[index]} for index in places]
            for row, places in zip(rows, order, strict=True)
        ]


class ReportsElsewhere(TwoClasses, ReportingTask):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        Path("table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsBesideItsFolder(TwoClasses, ReportingTask):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        (folder.parent / "table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsNoPicture(TwoClasses, ReportingTask):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report(figures=["confusion.png"])


class ReportsTensors(TwoClasses, ReportingTask):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report({"classes": [{"examples": torch.tensor(3)}]})


CAUGHT: list[tuple[type[Task], str]] = [
    (DecodesTensors, "decode_gives_json"),
    (DecodesTheFirstRow, "decode_gives_json"),
    (DecodesByTheBatch, "decode_gives_json"),
    (DecodesAllClasses, "decode_honours_top"),
    (DecodesByTheAlphabet, "decode_honours_top"),
    (NamesLabelsWithoutDecodingThem, "labels_are_the_targets"),
    (NamesLabelsInAnotherOrder, "labels_are_the_targets"),
    (GivesScoresForProbabilities, "labels_are_the_targets"),
    (ReportsElsewhere, "report_stays_in_its_folder"),
    (ReportsBesideItsFolder, "report_stays_in_its_folder"),
    (ReportsNoPicture, "report_stays_in_its_folder"),
    (ReportsTensors, "report_stays_in_its_folder"),
]
"""Each fault, and the check that must find it."""
