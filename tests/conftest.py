"""What all tests share: no network, one thread, and no deadlines, since machines are shared."""

import gc
import os

# Before anything imports torch or the hub's library: both read their variables once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("fcdistill", deadline=None)
settings.load_profile("fcdistill")


@pytest.fixture(scope="module", autouse=True)
def spared_collector() -> None:
    """Spare the garbage collector, which every training calls, what imports and earlier test modules left for good."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models on disk, sound and broken ones, see `tests.cli.projects.make_models`."""
    from tests.cli.projects import make_models

    return make_models(tmp_path_factory.mktemp("models"))
