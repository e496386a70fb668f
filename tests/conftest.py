"""What every test shares: no hub, one thread for BLAS, and where the shared data lie.

The variables are set before any test module is imported; torch's own threads are left alone, so
that light tests never import it.
"""

import os
from pathlib import Path

import hypothesis
import pytest

# On a busy machine a time limit for one example says nothing about the code.
hypothesis.settings.register_profile("fettle", deadline=None)
hypothesis.settings.load_profile("fettle")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_COLOR"] = "1"
os.environ.pop("FETTLE_DEBUG", None)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and weights beside the repository; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("real data: the folder ../shared is not here")
    return SHARED


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for a run, inside an empty current folder of its own with its own ledger."""
    (tmp_path / ".fettle").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "one"
