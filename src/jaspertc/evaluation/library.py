"""The optional libraries of this room, imported when they are needed."""

import logging
import os
import warnings
from typing import Any

from jaspertc.errors import MissingExtraError

EXTRA = "evaluate"


def mteb() -> Any:
    """The ``mteb`` package, quiet: its progress and ours would overwrite each other.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mteb as library
            import mteb.abstasks
            from datasets.utils import disable_progress_bars
    except ImportError as error:
        raise MissingExtraError("mteb", EXTRA, "an evaluation") from error
    disable_progress_bars()
    logging.getLogger("mteb").setLevel(logging.ERROR)
    return library
