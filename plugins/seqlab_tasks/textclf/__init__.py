"""Text classification: bundled reviews, NTC-SCV, or one's own texts."""

from seqlab_tasks.textclf.task import TextClassification

__all__ = ["TextClassification"]
