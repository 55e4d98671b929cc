"""Exported models on the Hugging Face Hub; needs the extra `hub`."""

from pathlib import Path
from typing import Any

from pir.errors import MissingExtraError, UserError
from pir.runs.schema import HUB, MANIFEST, WEIGHTS
from pir.system.terminal import one_line

FILES = [WEIGHTS, MANIFEST]


def download(repo: str) -> Path:
    """Returns the folder of a model on the Hub, which its own cache keeps.

    Args:
        repo: its name there, `OWNER/NAME`.

    Raises:
        UserError: if it cannot be had.
    """
    return Path(_call("snapshot_download", repo, allow_patterns=FILES))


def push(folder: Path, repo: str) -> None:
    """Writes a model to a repository on the Hub, which exists; the user has logged in.

    Raises:
        UserError: if it cannot be written.
    """
    _call("upload_folder", repo, folder_path=folder, allow_patterns=FILES)


def require_client(repo: str) -> Any:
    """Returns the Hub's library.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError(f"{HUB}{repo}", "hub") from error
    return huggingface_hub


def _call(name: str, repo: str, **arguments: Any) -> Any:
    """Calls a function of the Hub's library."""
    client = require_client(repo)
    try:
        return getattr(client, name)(repo_id=repo, **arguments)
    except Exception as error:  # the library raises many kinds
        raise UserError(f"{HUB}{repo}: {one_line(str(error))}") from error
