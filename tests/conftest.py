"""What several test modules share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from scballast.threads import seek_garbage_seldom

# A shell that starts the suite in the background has it ignore Ctrl-C, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

seek_garbage_seldom()
# One thread per worker: two workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# The same examples on every machine, however slow it is.
settings.register_profile("scballast", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("scballast")

LONG = ("slow", "postgresql", "slurm", "browser")
ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that train and sweep: the last file of a run is one that ends soon."""
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _whole_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process of its own look at each file first only where files are damaged: those of other tests are whole."""
    if request.node.get_closest_marker("damaged") is None:
        monkeypatch.setattr("scballast.data.files._survive", lambda *_: None)


@pytest.fixture
def spared_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in reports that nobody looks at, and copy the database of the runs."""
    # Not above: it imports numpy, which counts the threads that it may use.
    from tests.helpers.spared_work import make_template, spare_work

    make_template()
    spare_work(monkeypatch)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets, which are not part of the repository."""
    folder = Path(os.environ.get("SCBALLAST_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data sets are not here; set SCBALLAST_TEST_DATA to their folder")
    return folder
