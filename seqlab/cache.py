"""Where things are kept that can be made or fetched again."""

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """Say where: ``$SEQLAB_CACHE``, or else the user's cache folder."""
    return Path(os.environ.get("SEQLAB_CACHE") or user_cache_dir("seqlab"))
