"""Tasks with one fault each."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Ragged, Report, Task

from .good_tasks import CrossEntropy, FreshSum, Mean, NextToken, Parity, RunningSum, TwoClasses, steps_of

# The constructor and its options ------------------------------------------------------------------------------------


class NeedsAFolder(TwoClasses):
    def __init__(self, folder: str, sequence_length: int | None = None) -> None:
        super().__init__(sequence_length=sequence_length)


class ReadsAtOnce(TwoClasses):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed, sequence_length)
        self.licence = Path(__file__).read_text("utf-8")


class TakesNoLength(TwoClasses):
    def __init__(self, split_seed: int = 0) -> None:
        super().__init__(split_seed)


class TakesAnyLength(TwoClasses):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed)
        self.sequence_length = sequence_length


class ForgetsItsLength(TwoClasses):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed, sequence_length)
        self.sequence_length = None


# The data -----------------------------------------------------------------------------------------------------------


class NoValidation(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {name: examples for name, examples in super().splits().items() if name != "valid"}


class EmptyTest(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {**super().splits(), "test": Examples([], torch.zeros(0, dtype=torch.int64))}


class TestsOnTraining(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        test, train = made["test"], made["train"]
        targets = torch.cat([test.targets[1:], train.targets[:1]])
        return {**made, "test": Examples([*test.inputs[1:], train.inputs[0]], targets)}  # type: ignore[misc]


class ValidatesOnTestedTensors(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        return {**made, "valid": made["test"]}


class SplitsByTheGlobalSeed(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = int(torch.randint(1000, ()))
        return super().splits()


class SplitsOnFromWhereItWas(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed += 1
        return super().splits()


class IgnoresSplitSeed(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = 0
        return super().splits()


class DrawsByTheGlobalSeed(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return self._made(count, torch.Generator().manual_seed(int(torch.randint(10**6, ()))))


class DrawsTheSameForEverySeed(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, 0)


class DrawsWhatItTests(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        test = self.splits()["test"]
        assert isinstance(test.inputs, Ragged)
        steps = int(test.inputs.lengths[seed : seed + count].sum())
        begin = int(test.inputs.starts[seed])
        inputs = Ragged(test.inputs.values[begin : begin + steps], test.inputs.lengths[seed : seed + count])
        return Examples(inputs, test.targets[seed : seed + count])


class DrawsTooFew(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count - 1, seed)


class GivesBytes(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        as_bytes = {name: [text.encode() for text in part.inputs] for name, part in made.items()}
        return {name: Examples(as_bytes[name], part.targets) for name, part in made.items()}


class TokensFromZero(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        return {
            name: Examples(Ragged(part.inputs.values - 1, part.inputs.lengths), part.targets)
            for name, part in super().splits().items()
        }


class TestsOnNewTokens(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        made["test"].inputs.values[0] = 10
        return made


class NamesNoPreprocessing(TwoClasses):
    preprocessing = None


class NamesAStrangePreprocessing(TwoClasses):
    preprocessing = "runes"


class PreprocessesTensors(Parity):
    preprocessing = "characters"


class CountsClassesFromOne(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets + 1) for name, part in super().splits().items()}


class TargetsOneStepShort(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets[:, 1:]) for name, part in super().splits().items()}


class ATargetIsInfinite(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        made["train"].targets[3, 0] = torch.inf
        return made


class WeighsClasses(TwoClasses):
    def sample_weights(self) -> Tensor:
        return torch.tensor([0.3, 0.7])


class WeighsBelowZero(TwoClasses):
    def sample_weights(self) -> Tensor:
        return torch.linspace(-1, 1, self.examples)

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.examples = len(made["train"])
        return made


class CutsTextsItself(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        cut = self.sequence_length
        return {name: Examples([text[:cut] for text in part.inputs], part.targets) for name, part in made.items()}


class MeansSomethingElse(TwoClasses):
    sequence_length_means = "minimum"


class IgnoresItsWindow(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 16
        made = super().splits()
        self.sequence_length = kept
        return made


class DistanceIsNotReached(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 6
        made = super().splits()
        self.sequence_length = kept
        return made


# The loss -----------------------------------------------------------------------------------------------------------


class HeadOfOne(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 1)


class LossOfEachRow(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="none")


class LossWithoutGradient(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.argmax(-1) != batch.targets).float().mean()


class LossOfZeroProbability(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return -outputs.clamp(0, 1).log().gather(1, batch.targets.unsqueeze(1)).mean()


class Backwards(torch.autograd.Function):
    """The identity, with a gradient of the wrong sign."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return -gradient


class LossRisesAlongItsGradient(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().loss(Backwards.apply(outputs), batch)


class LossOfTheOtherClass(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, 1 - batch.targets)


class LossIsARunningMean(TwoClasses):
    so_far = 0.0

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = 0.9 * self.so_far + 0.1 * super().loss(outputs, batch)
        self.so_far = float(loss.detach())
        return loss


class LossMarksTargets(NextToken):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = super().loss(outputs, batch)
        batch.targets[:, 0] = 0
        return loss


class LossOfTheFirstRow(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:1], batch.targets[:1])


class LossCountsPadding(RunningSum):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs, batch.targets[:, : outputs.shape[1]].nan_to_num())


class GradientOfPaddingIsNaN(RunningSum):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        error = (outputs - batch.targets[:, : outputs.shape[1]]).square()
        return error[steps_of(batch)].mean()


class LossWantsTheLongest(Parity):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)


class WidePaddedTargets(Mean):
    """Takes the mark of padding for a class that was missed."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets[:, : outputs.shape[1]]).double()


class MetricsCountPadding(Parity):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": WidePaddedTargets()})


# The metrics --------------------------------------------------------------------------------------------------------


class MetricOfEachClass(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="none")})


class Undefined(Mean):
    """Nothing by nothing."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(0)


class MetricIsNaN(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro"), "share": Undefined()})


class MonitorsNothing(TwoClasses):
    @property
    def monitor(self) -> str:
        return "valid/accuracy"


class ModeIsAWord(TwoClasses):
    @property
    def mode(self) -> Any:
        return "higher"


ONE = MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})


class SharesItsMetrics(TwoClasses):
    def metrics(self) -> MetricCollection:
        return ONE


class KeepsCounting(Mean):
    """A reset forgets the sum, and not the count."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).double()

    def reset(self) -> None:
        count = self.count
        super().reset()
        self.count = count.clone()


class MetricsAreNeverReset(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": KeepsCounting()})


class MeanOfPerplexities(CrossEntropy):
    """Of the batches, each of which counts the same."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += self.values(outputs, targets).mean().exp()
        self.count += 1


class MetricsAreMeansOfBatches(NextToken):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"perplexity": MeanOfPerplexities()})


class ModeIsWrong(TwoClasses):
    @property
    def mode(self) -> Literal["min", "max"]:
        return "min"


# The chance line ----------------------------------------------------------------------------------------------------


class BaselinePeeks(TwoClasses):
    def blind_outputs(self, batch: Batch) -> Tensor:
        shares = (torch.bincount(batch.targets, minlength=2) + 1) / (len(batch.targets) + 2)
        return shares.log().expand(len(batch.inputs), 2)


class BaselineReads(TwoClasses):
    def blind_outputs(self, batch: Batch) -> Tensor:
        return super().blind_outputs(batch) * (batch.inputs == 2).float().mean(1, keepdim=True)


class BaselineIsOneRow(TwoClasses):
    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().unsqueeze(0)


class BaselineIsInfinite(TwoClasses):
    def blind_outputs(self, batch: Batch) -> Tensor:
        return (super().blind_outputs(batch) > -0.7).log()


class BaselineIsTooWeak(TwoClasses):
    """It guesses the rare class, so that everything looks learned."""

    def blind_outputs(self, batch: Batch) -> Tensor:
        return -super().blind_outputs(batch)


class BaselineGuessesZero(RunningSum):
    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape[:2], 1)


class BaselineCannotBeBeaten(TwoClasses):
    """All of its test examples are of the class that is frequent."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        texts = [text.replace("a", "b") for text in made["test"].inputs]
        return {**made, "test": Examples(texts, torch.zeros(len(texts), dtype=torch.int64))}


class SolvedByChance(TwoClasses):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["accuracy"] > 0.1


class NeverSolved(RunningSum):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["squared_error"] > 0.01


# What a user sees ---------------------------------------------------------------------------------------------------


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


class NamesLabelsWithoutDecodingThem(TwoClasses):
    def label_names(self):
        return self.labels


class NamesLabelsInAnotherOrder(TwoClasses):
    def label_names(self):
        return self.labels[::-1]

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [[{"label": label, "probability": 0.5} for label in row] for row in super().decode(outputs, top)]


class ReportsElsewhere(TwoClasses):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        Path("table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsBesideItsFolder(TwoClasses):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        (folder.parent / "table.csv").write_text("1,2", "utf-8")
        return Report()


class ReportsNoPicture(TwoClasses):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report(figures=["confusion.png"])


class ReportsTensors(TwoClasses):
    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        return Report({"classes": [{"examples": torch.tensor(3)}]})


# The state ----------------------------------------------------------------------------------------------------------


class KeepsATensor(TwoClasses):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "shares": torch.tensor(self.shares)}


class KeepsTuples(TwoClasses):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "labels": tuple(self.labels)}


class LoadsLabelsSorted(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.labels.sort()


class LoadsWithItsData(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(state).encode())


class BelievesAnything(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels, self.shares = list(state.get("labels", [])), list(state.get("shares", []))


class BelievesTypes(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"labels", "shares"}:
            raise ValueError("the state must have labels and shares, and nothing else")
        self.labels, self.shares = state["labels"], state["shares"]


CAUGHT: list[tuple[type[Task], str]] = [
    (NeedsAFolder, "constructor_needs_nothing"),
    (ReadsAtOnce, "constructor_reads_no_data"),
    (TakesNoLength, "sequence_length_is_an_option"),
    (TakesAnyLength, "sequence_length_is_an_option"),
    (ForgetsItsLength, "sequence_length_is_an_option"),
    (NoValidation, "splits_are_three"),
    (EmptyTest, "splits_are_three"),
    (TestsOnTraining, "splits_are_disjoint"),
    (ValidatesOnTestedTensors, "splits_are_disjoint"),
    (SplitsByTheGlobalSeed, "splits_are_the_same_again"),
    (SplitsOnFromWhereItWas, "splits_are_the_same_again"),
    (IgnoresSplitSeed, "split_seed_deals_anew"),
    (DrawsByTheGlobalSeed, "draws_are_seeded"),
    (DrawsTheSameForEverySeed, "draws_are_seeded"),
    (DrawsWhatItTests, "draws_are_seeded"),
    (DrawsTooFew, "draws_are_seeded"),
    (GivesBytes, "inputs_are_right"),
    (TokensFromZero, "inputs_are_right"),
    (TestsOnNewTokens, "inputs_are_right"),
    (NamesNoPreprocessing, "default_preprocessing"),
    (NamesAStrangePreprocessing, "default_preprocessing"),
    (PreprocessesTensors, "default_preprocessing"),
    (CountsClassesFromOne, "targets_are_right"),
    (TargetsOneStepShort, "targets_are_right"),
    (ATargetIsInfinite, "targets_are_right"),
    (WeighsClasses, "sample_weights"),
    (WeighsBelowZero, "sample_weights"),
    (CutsTextsItself, "sequence_length_is_respected"),
    (MeansSomethingElse, "sequence_length_is_respected"),
    (IgnoresItsWindow, "sequence_length_is_respected"),
    (DistanceIsNotReached, "sequence_length_is_respected"),
    (HeadOfOne, "head_gives_the_outputs"),
    (LossOfEachRow, "loss_is_a_finite_scalar"),
    (LossWithoutGradient, "loss_is_a_finite_scalar"),
    (LossOfZeroProbability, "loss_is_a_finite_scalar"),
    (LossRisesAlongItsGradient, "loss_falls_along_its_gradient"),
    (LossOfTheOtherClass, "loss_prefers_the_truth"),
    (LossIsARunningMean, "loss_has_no_memory"),
    (LossMarksTargets, "loss_has_no_memory"),
    (LossOfTheFirstRow, "loss_takes_rows_in_any_order"),
    (LossCountsPadding, "padding_does_not_count"),
    (GradientOfPaddingIsNaN, "padding_does_not_count"),
    (LossWantsTheLongest, "padding_does_not_count"),
    (MetricsCountPadding, "padding_does_not_count"),
    (MetricOfEachClass, "metrics_are_finite_scalars"),
    (MetricIsNaN, "metrics_are_finite_scalars"),
    (MonitorsNothing, "monitor_is_a_metric"),
    (ModeIsAWord, "monitor_is_a_metric"),
    (SharesItsMetrics, "metrics_are_fresh"),
    (MetricsAreNeverReset, "metrics_begin_anew_after_reset"),
    (MetricsAreMeansOfBatches, "metrics_add_up"),
    (ModeIsWrong, "mode_is_right"),
    (BaselinePeeks, "baseline_is_blind"),
    (BaselineReads, "baseline_is_blind"),
    (BaselineIsOneRow, "baseline_is_blind"),
    (BaselineIsInfinite, "baseline_is_blind"),
    (BaselineIsTooWeak, "baseline_is_the_best_guess"),
    (BaselineGuessesZero, "baseline_is_the_best_guess"),
    (BaselineCannotBeBeaten, "baseline_can_be_beaten"),
    (SolvedByChance, "solved_is_a_line"),
    (NeverSolved, "solved_is_a_line"),
    (DecodesTensors, "decode_gives_json"),
    (DecodesTheFirstRow, "decode_gives_json"),
    (DecodesByTheBatch, "decode_gives_json"),
    (DecodesAllClasses, "decode_honours_top"),
    (DecodesByTheAlphabet, "decode_honours_top"),
    (NamesLabelsWithoutDecodingThem, "labels_are_the_targets"),
    (NamesLabelsInAnotherOrder, "labels_are_the_targets"),
    (ReportsElsewhere, "report_stays_in_its_folder"),
    (ReportsBesideItsFolder, "report_stays_in_its_folder"),
    (ReportsNoPicture, "report_stays_in_its_folder"),
    (ReportsTensors, "report_stays_in_its_folder"),
    (KeepsATensor, "state_is_plain_json"),
    (KeepsTuples, "state_is_plain_json"),
    (LoadsLabelsSorted, "state_is_taken_back"),
    (LoadsWithItsData, "state_is_taken_back"),
    (BelievesAnything, "bad_states_are_refused"),
    (BelievesTypes, "bad_states_are_refused"),
]
"""Each fault, and the check that must find it."""
