"""Texts and a label for each: reviews and their sentiment, or one's own."""

from seqlab_tasks.textclf.task import TextClassification

__all__ = ["TextClassification"]
