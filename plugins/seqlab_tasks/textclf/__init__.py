"""Text classification: bundled reviews, NTC-SCV, or your own texts."""

from seqlab_tasks.textclf.task import TextClassification

__all__ = ["TextClassification"]
