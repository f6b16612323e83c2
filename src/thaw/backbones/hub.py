"""Weights that are published on the Hugging Face Hub, fetched into its cache, which other programs share."""

import logging
import os
import sys
from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.weight_files import FILE


def fetch(repository: str) -> Path:
    """Return the file with the weights of a repository, such as `facebook/dinov2-small`.

    It is downloaded if the cache does not have it. The cache, the address of the Hub and a person's token are those of
    `huggingface_hub`: HF_HOME, HF_ENDPOINT, HF_TOKEN. Raises ThawError if the file cannot be reached.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import errors, hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # five retries of a machine without the internet
    remedy = (
        f"download {FILE} of {repository} elsewhere and set backbone.weights to that file, or run `dvc pull` if a "
        "teammate pushed models/backbone"
    )
    try:
        return Path(hf_hub_download(repository, FILE))
    except errors.GatedRepoError as error:
        raise ThawError(
            f"the weights of {repository} are given to those who accept their licence: accept it on the page of "
            "that repository, then set HF_TOKEN to a token of yours"
        ) from error
    except (OSError, ValueError, errors.HTTPError) as error:  # a wrong address or token is a ValueError
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ThawError(f"the weights of {repository} were not reached ({reason}): {remedy}") from error
