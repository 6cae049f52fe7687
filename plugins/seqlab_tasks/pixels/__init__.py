"""Images that are read as sequences, row by row or pixel by pixel."""

from seqlab_tasks.pixels.task import Pixels

__all__ = ["Pixels"]
