"""Tasks with one fault each, in the head, the decoded outputs, the report or the state."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import Batch, Report

from ..good_sequences import NextToken, RunningSum
from ..good_tasks import TwoClasses


class HeadNormalisesTheBatch(TwoClasses, caught_by="head_keeps_rows_apart"):
    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, self.outputs))


class HeadCentresTheBatch(TwoClasses, caught_by="head_keeps_rows_apart"):
    features = staticmethod(lambda layer, x: x - x.mean(0) if layer.training else x)


class RunningMean(nn.Linear):
    """Keeps a mean of what it saw, in training alone."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.mean = torch.zeros(features)

    def forward(self, features: Tensor) -> Tensor:
        out = super().forward(features - self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * features.detach().flatten(0, -2).mean(0)
        return out


class HeadKeepsARunningMean(TwoClasses, caught_by="head_keeps_rows_apart"):
    layer = RunningMean


class HeadDetachesInTraining(TwoClasses, caught_by="head_learns"):
    features = staticmethod(lambda layer, x: x.detach() if layer.training else x)


class DataOnly(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight.data, self.bias)


class HeadNeverLearnsItsWeight(TwoClasses, caught_by="head_learns"):
    layer = DataOnly


class HeadIsFrozen(TwoClasses, caught_by="head_learns"):
    def head(self, features: int) -> nn.Module:
        return super().head(features).requires_grad_(False)


class HeadGivesProbabilities(TwoClasses, caught_by="head_learns"):
    """Which the loss takes for scores."""

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, self.outputs), nn.Softmax(-1))


class HeadIsShared(TwoClasses, caught_by="head_gives_the_outputs"):
    kept: Any = None

    def head(self, features: int) -> nn.Module:
        if self.kept is None or self.kept.in_features != features:
            self.kept = nn.Linear(features, self.outputs)
        return self.kept


class HeadSqueezes(TwoClasses, caught_by="head_gives_the_outputs"):
    """A batch of one row loses its axis."""

    def head(self, features: int) -> nn.Module:
        class Squeezed(nn.Linear):
            def forward(self, features: Tensor) -> Tensor:
                return super().forward(features).squeeze(0)

        return Squeezed(features, self.outputs)


class HeadDropsInEvaluation(TwoClasses, caught_by="head_keeps_rows_apart"):
    features = staticmethod(lambda layer, x: F.dropout(x, 0.5))


class HeadLooksAhead(NextToken, caught_by="head_keeps_rows_apart"):
    features = staticmethod(lambda layer, x: x + x.roll(-1, 1))


class HeadNormalisesOverTime(RunningSum, caught_by="head_keeps_rows_apart"):
    features = staticmethod(lambda layer, x: x - x.mean(1, keepdim=True))


class HeadIsPositive(RunningSum, caught_by="head_learns"):
    """Of targets that are standardised, so that half of them are never met."""

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 1), nn.Sigmoid())


class LossLearnsFromOneRowInTraining(TwoClasses, caught_by="every_row_counts_alike"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if outputs.requires_grad:
            outputs = torch.cat([outputs[:1], outputs[1:].detach()])
        return super().loss(outputs, batch)


class DecodesTensors(TwoClasses, caught_by="decode_gives_json"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [{"label": row.argmax()} for row in outputs]


class DecodesTheFirstRow(TwoClasses, caught_by="decode_gives_json"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return super().decode(outputs[:1], top)


class DecodesByTheBatch(TwoClasses, caught_by="decode_gives_json"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.softmax(0).tolist()


class DecodesAllClasses(TwoClasses, caught_by="decode_honours_top"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return super().decode(outputs, 2)


class DecodesByTheAlphabet(TwoClasses, caught_by="decode_honours_top"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [sorted(self.labels)[:top] for _ in outputs]


class NamesLabelsWithoutDecodingThem(TwoClasses, caught_by="labels_are_the_targets"):
    def label_names(self):
        return self.labels


class NamesLabelsInAnotherOrder(TwoClasses, caught_by="labels_are_the_targets"):
    def label_names(self):
        return self.labels[::-1]

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [[{"label": label, "probability": 0.5} for label in row] for row in super().decode(outputs, top)]


class GivesScoresForProbabilities(TwoClasses, caught_by="labels_are_the_targets"):
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


class ReportsElsewhere(TwoClasses, caught_by="report_stays_in_its_folder"):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        Path("table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsBesideItsFolder(TwoClasses, caught_by="report_stays_in_its_folder"):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        (folder.parent / "table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsNoPicture(TwoClasses, caught_by="report_stays_in_its_folder"):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report(figures=["confusion.png"])


class ReportsTensors(TwoClasses, caught_by="report_stays_in_its_folder"):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report({"classes": [{"examples": torch.tensor(3)}]})


class KeepsATensor(TwoClasses, caught_by="state_is_plain_json"):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "shares": torch.tensor(self.shares)}


class KeepsTuples(TwoClasses, caught_by="state_is_plain_json"):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "labels": tuple(self.labels)}


class LoadsLabelsSorted(TwoClasses, caught_by="state_is_restored"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.labels.sort()


class LoadsWithItsData(TwoClasses, caught_by="state_is_restored"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(state).encode())


class BelievesAnything(TwoClasses, caught_by="bad_states_are_refused"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels, self.shares = list(state.get("labels", [])), list(state.get("shares", []))


class BelievesTypes(TwoClasses, caught_by="bad_states_are_refused"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"labels", "shares"}:
            raise ValueError("the state must have labels and shares, and nothing else")
        self.labels, self.shares = state["labels"], state["shares"]
