"""Fetch a base from the Hugging Face hub, or find it in the cache.

In: a hub id and a revision. Out: a local directory and the commit it is of. Only safetensors, JSON,
tokenizer, template and licence files of the repository's top folder are fetched; a pickle never is.
Must not know: what is in the files.
"""

import errno
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fettle.errors import BaseModelError, MachineError, NetworkError

ALLOWED = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "README.md", "LICENSE*"]
IGNORED = ["*/*", "consolidated*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.py"]
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
_LOCAL_HINT = (
    "use a local directory in Hugging Face format (--base DIR), or the bundled base"
    " (--base starter)"
)


def fetch(
    id: str, revision: str | None, offline: bool, progress: Callable[[str], None]
) -> tuple[Path, str]:
    """Make a hub repository's model files available locally.

    Args:
        id: ``name`` or ``owner/name``.
        revision: branch, tag or commit; None = the default branch.
        offline: use the cache only; also on with the environment variable HF_HUB_OFFLINE.
        progress: told in one line what is being done.

    Returns:
        The directory, and the commit (which pins the base for ever after).

    Raises:
        BaseModelError: E0510 gated, E0511 not found.
        NetworkError: E0801 the hub did not answer, E0802 not in the cache and offline.
        MachineError: E0401 the cache can't be written.
    """
    local_only = offline or constants.HF_HUB_OFFLINE
    progress(f"base {id}: {'looking into the cache' if local_only else 'asking the hub'}")
    try:
        directory = snapshot_download(
            id,
            revision=revision,
            allow_patterns=ALLOWED,
            ignore_patterns=IGNORED,
            local_files_only=local_only,
        )
    except (GatedRepoError, DisabledRepoError) as error:
        raise BaseModelError(
            "E0510",
            f"the base {id} is gated: its owner wants its terms accepted first",
            hint=f"accept them at https://huggingface.co/{id}, run `hf auth login`,"
            " then run the same command again",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision}" if revision else ""
        raise BaseModelError(
            "E0511",
            f"there is no base {id!r}{at}: neither a directory here nor a hub repository",
            hint="check the spelling; for a private repository run `hf auth login` first",
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(id, local_only, error) from error
    except HTTPError as error:
        raise _unreachable(id, False, error) from error
    except OSError as error:
        if error.errno in _DISK:
            raise MachineError(
                "E0401",
                f"can't write the hub cache {constants.HF_HUB_CACHE}: {error.strerror}",
                hint="free some space, or choose another folder with HF_HUB_CACHE=DIR",
            ) from error
        raise _unreachable(id, False, error) from error
    return Path(directory), Path(directory).name


def _unreachable(id: str, local_only: bool, error: Exception) -> NetworkError:
    if local_only:
        return NetworkError(
            "E0802",
            f"the base {id} is not in the hub cache, and offline mode is on",
            where=str(constants.HF_HUB_CACHE),
            hint=f"run once with network and without offline mode; or {_LOCAL_HINT}",
        )
    first = str(error).strip().splitlines()
    return NetworkError(
        "E0801",
        f"the hub did not answer for the base {id}",
        why=first[0][:200] if first else type(error).__name__,
        hint=f"check the network and try again; or {_LOCAL_HINT}",
    )


def cache_directory() -> Path:
    """Where downloaded bases are kept."""
    return Path(constants.HF_HUB_CACHE)
