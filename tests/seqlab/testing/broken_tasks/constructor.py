"""Tasks with one fault each, in the constructor or its options."""

from pathlib import Path

from seqlab import Task

from ..good_tasks import TwoClasses


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


CAUGHT: list[tuple[type[Task], str]] = [
    (NeedsAFolder, "constructor_needs_nothing"),
    (ReadsAtOnce, "constructor_reads_no_data"),
    (TakesNoLength, "sequence_length_is_an_option"),
    (TakesAnyLength, "sequence_length_is_an_option"),
    (ForgetsItsLength, "sequence_length_is_an_option"),
]
"""Each fault, and the check that must find it."""
