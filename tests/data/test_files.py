"""Files that are damaged, locked or cut short, and names that could escape from where they are written."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from tests.helpers.data_examples import N_CELLS, file_config, written

from scballast.data import load_dataset
from scballast.errors import DataError

pytestmark = pytest.mark.damaged


@pytest.fixture
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_without_read_permission(tmp_path: Path, as_nobody: None) -> None:
    path = Path("/etc/shadow")
    if not path.exists() or os.access(path, os.R_OK, effective_ids=True):
        pytest.skip("no unreadable file at hand")
    with pytest.raises(DataError, match=r"/etc/shadow: cannot be opened: Permission denied\. Check the path"):
        load_dataset(file_config(path))


def test_a_file_that_another_process_has_locked(tmp_path: Path) -> None:
    path = written(tmp_path)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"counts.h5ad: another process is writing it.*Wait until"):
            load_dataset(file_config(path))


def test_a_file_whose_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "counts.h5ad"
    writer = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['X'] = [1]; os._exit(0)"
    subprocess.run([sys.executable, "-c", writer, str(path)], check=True)
    with pytest.raises(DataError, match=r"counts.h5ad: another process is writing it, or was killed while it did"):
        load_dataset(file_config(path))


def test_every_truncation_of_a_file_is_reported(tmp_path: Path) -> None:
    content = written(tmp_path).read_bytes()
    path = tmp_path / "part.h5ad"
    for n_bytes in np.linspace(0, len(content) - 1, 12).astype(int):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(DataError, match=r"^part\.h5ad: "):
            load_dataset(file_config(path))


def test_random_damage_ends_in_data_or_a_message(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path).read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.h5ad"
    messages: list[str] = []
    n_loaded = 0
    for _ in range(20):
        damaged = bytearray(content)
        for position in rng.integers(8, len(content), 20):
            damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            n_loaded += load_dataset(file_config(path)).adata.n_obs > 0
        except DataError as error:
            messages.append(str(error))
    assert n_loaded + len(messages) == 20
    assert messages
    assert all(message.startswith("damaged.h5ad: ") for message in messages)


NASTY = [
    "../../etc",
    "a/b",
    "a\\b",
    "x\ny",
    "<script>alert(1)</script>",
    "'; DROP",
    '"',
    "γδ T",
    "细胞",
    "..",
    " ",
    "CD8+",
    "cd8plus",
]


def test_names_that_could_escape_are_kept_but_made_safe(tmp_path: Path) -> None:
    def rename(adata: ad.AnnData) -> None:
        adata.obs["cell_type"] = np.asarray([NASTY[i % len(NASTY)] for i in range(N_CELLS)], dtype=object)
        adata.var_names = [*NASTY[:-3], *adata.var_names[len(NASTY) - 3 :]]

    dataset = load_dataset(file_config(written(tmp_path, rename), min_cells=2))
    safe = [population.safe_name for population in dataset.populations]
    assert {population.name for population in dataset.populations} == set(NASTY) - {" "}
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,59}", name) for name in safe)
    assert len({name.lower() for name in safe}) == len(safe)
    assert set(NASTY[:-3]) <= set(dataset.adata.var_names)


def test_messages_escape_what_they_quote(tmp_path: Path) -> None:
    def change(adata: ad.AnnData) -> None:
        adata.var_names = ["bad\n\x1b[31mname", *adata.var_names[1:]]
        adata.X = adata.X.toarray()
        adata.X[0, 0] = -1

    with pytest.raises(DataError) as caught:
        load_dataset(file_config(written(tmp_path, change)))
    assert "gene 'bad\\n\\x1b[31mname'" in str(caught.value)


def test_a_file_that_crashes_the_hdf5_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", encoding="utf-8")
    monkeypatch.setattr("scballast.data.files.HDF5_CHECK", crash)
    with pytest.raises(
        DataError, match=r"counts.h5ad: the file is damaged: the HDF5 library crashes on it \(SIGSEGV\)"
    ):
        load_dataset(file_config(written(tmp_path)))


@pytest.mark.parametrize("name", ["counts", "counts.h5ad.bak", "counts.anndata"])
def test_a_file_is_known_by_its_content_where_its_name_does_not_say(name: str, tmp_path: Path) -> None:
    path = written(tmp_path).rename(tmp_path / name)
    assert load_dataset(file_config(path)).adata.n_obs == N_CELLS
