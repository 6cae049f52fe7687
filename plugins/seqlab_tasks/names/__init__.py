"""Which language is a name from?"""

from seqlab_tasks.names.task import Names

__all__ = ["Names"]
