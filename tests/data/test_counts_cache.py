"""Analysed counts that were kept are those that were read, for everything that they depend on, whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.data.test_blocks import content, example
from tests.helpers.data_examples import file_config, matrix_folder, small_adata

from scballast.config.compose import compose_config
from scballast.config.schema import DataConfig
from scballast.data import Dataset, load_dataset, prepared
from scballast.data.counts_cache import CountsCache
from scballast.engine.stored_counts import StoredArray
from scballast.experiment.run import prepare_dataset

pytestmark = pytest.mark.usefixtures("every_file_is_large")
LIMIT = 2**30


@pytest.fixture
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scballast.data.prepared.LARGE_BYTES", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with other counts in a layer, corrected ones in another, and two columns of labels."""
    adata = example()
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 3 == 0, "d1", "d2")
    adata.obs["cluster"] = np.where(np.arange(adata.n_obs) % 5 == 0, "T", "B")
    adata.layers["double"] = adata.X * 2
    adata.layers["corrected"] = sp.csr_matrix(
        (adata.X.data - 0.02 * (np.arange(adata.X.nnz) % 9 == 0), adata.X.indices, adata.X.indptr), shape=adata.shape
    )
    adata.write_h5ad(tmp_path / "x.h5ad")
    return tmp_path / "x.h5ad"


@pytest.fixture
def cache(tmp_path: Path) -> CountsCache:
    return CountsCache(tmp_path / "counts", LIMIT)


def also(names: Any) -> np.ndarray:
    return np.arange(len(names["name"])) % 3 == 0


def loaded(config: DataConfig, cache: CountsCache | None) -> Dataset:
    return load_dataset(config, also=also, cache=cache)


def config_of(path: Path, **settings: Any) -> DataConfig:
    return file_config(path, **{"n_top_genes": 60, "batch_key": "batch", **settings})


def entries(cache: CountsCache) -> list[str]:
    return sorted(os.listdir(cache.folder)) if cache.folder.exists() else []


def test_what_was_kept_is_what_was_read(path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(path)
    expected = content(loaded(config, None))
    assert content(loaded(config, cache)) == expected
    assert len(entries(cache)) == 1
    monkeypatch.setattr("scballast.data.prepared.analysed_counts", lambda request: pytest.fail("it was read"))
    assert content(loaded(config, cache)) == expected


def test_what_goes_to_disk_as_it_is_read_is_the_same(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, on_disk = config_of(path), replace(cache, is_disk=True)
    expected = content(loaded(config, None))
    with monkeypatch.context() as patch:
        patch.setattr(CountsCache, "keep", lambda *_: pytest.fail("it was in memory"))
        dataset = loaded(config, on_disk)
    assert content(dataset) == expected
    matrix = dataset.adata.X
    for array in (matrix.data, matrix.indices):  # where training from disk will look for it
        assert StoredArray(array, np.float32).path is not None
    assert content(loaded(config, cache)) == expected
    assert len(entries(cache)) == 1


def test_of_two_that_prepare_the_same_counts_the_first_entry_stays(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, on_disk = config_of(path), replace(cache, is_disk=True)
    real, n_calls = prepared.analysed_counts, []

    def overtaken(*values: Any, **others: Any) -> Any:
        n_calls.append(1)
        counts = real(*values, **others)
        if len(n_calls) == 1:  # another process begins later and is done before
            with ThreadPoolExecutor(1) as other:
                other.submit(loaded, config, on_disk).result()
            (name,) = [name for name in entries(cache) if not name.startswith(".")]
            (cache.folder / name / "shuffled.npy").touch()
        return counts

    monkeypatch.setattr(prepared, "analysed_counts", overtaken)
    dataset = loaded(config, on_disk)
    assert len(n_calls) == 2
    (name,) = entries(cache)
    assert (cache.folder / name / "shuffled.npy").exists()
    monkeypatch.undo()
    assert content(dataset) == content(loaded(config, None))


def test_what_cannot_be_left_on_disk_is_said_and_leaves_nothing(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scballast.errors import DataError

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scballast.data.counts_cache.WrittenArray.append", full)
    with pytest.raises(DataError, match=r"train\.data=stream.*No space left on device.*train\.data=memory"):
        loaded(config_of(path), replace(cache, is_disk=True))
    assert entries(cache) == []


def test_a_file_that_changes_while_it_goes_to_disk_is_refused(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scballast.errors import DataError

    names = iter(["before", "after"])
    monkeypatch.setattr("scballast.data.prepared.request_name", lambda *_: next(names))
    with pytest.raises(DataError, match="the counts changed while they were read"):
        loaded(config_of(path), replace(cache, is_disk=True))
    assert entries(cache) == []


CHANGES: dict[str, dict[str, Any]] = {
    "layer": {"layer": "double"},
    "genes": {"n_top_genes": 50},
    "all genes": {"n_top_genes": None},
    "populations": {"population_key": "cluster"},
    "batches": {"batch_key": "donor"},
    "no batches": {"batch_key": None},
    "samples": {"sample_key": "donor"},
    "unlabelled": {"unlabelled": "drop"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_other_counts(change: str, path: Path, cache: CountsCache) -> None:
    loaded(config_of(path), cache)
    config = config_of(path, **CHANGES[change])
    assert content(loaded(config, cache)) == content(loaded(config, None))
    assert len(entries(cache)) == 2


def test_rounding_is_not_forgotten(path: Path, cache: CountsCache) -> None:
    from scballast.errors import DataError

    assert "were rounded" in " ".join(loaded(config_of(path, layer="corrected", round=True), cache).warnings)
    with pytest.raises(DataError, match=r"Set data\.round=true"):
        loaded(config_of(path, layer="corrected"), cache)


def test_labels_from_a_table_and_other_wishes_are_part_of_the_name(path: Path, cache: CountsCache) -> None:
    labels = path.with_name("labels.csv")
    obs = example().obs
    config = config_of(path, labels=str(labels), population_key="type", batch_key=None)
    digests = set()
    for other in ("NK", "Mono"):
        obs["type"] = [other if i % 2 else "T" for i in range(len(obs))]
        obs[["type"]].to_csv(labels)
        digests.add(loaded(config, cache).digest)
    assert len(digests) == len(entries(cache)) == 2
    load_dataset(config, cache=cache)
    assert len(entries(cache)) == 3


def test_settings_that_change_no_count_share_an_entry(path: Path, cache: CountsCache) -> None:
    loaded(config_of(path), cache)
    found = loaded(config_of(path, min_cells=70, name="other"), cache)
    assert len(entries(cache)) == 1
    assert [population.name for population in found.populations] == ["B", "T"] or len(found.populations) < 3


@pytest.mark.parametrize("touched", ["content", "place"])
def test_another_file_is_other_counts(touched: str, path: Path, cache: CountsCache) -> None:
    before = loaded(config_of(path), cache).digest
    if touched == "content":
        import h5py

        size = path.stat().st_size
        with h5py.File(path, "r+") as file:
            file["X/data"][5] += 1
        assert path.stat().st_size == size
    else:
        path = Path(shutil.copy(path, path.with_name("y.h5ad")))
    after = loaded(config_of(path), cache).digest
    assert (after == before) == (touched == "place")
    assert len(entries(cache)) == 2


def test_a_file_that_is_written_meanwhile_is_not_kept(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scballast.data.analysed import AnalysedCounts, CountsRequest, analysed_counts

    def read(request: CountsRequest) -> AnalysedCounts:
        found = analysed_counts(request)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        return found

    monkeypatch.setattr("scballast.data.prepared.analysed_counts", read)
    loaded(config_of(path), cache)
    assert entries(cache) == []


def test_a_write_that_is_interrupted_leaves_nothing(
    path: Path, cache: CountsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[object] = []
    save = np.save

    def interrupted(file: Any, array: Any) -> None:
        saved.append(array)
        if len(saved) == 4:
            raise KeyboardInterrupt
        save(file, array)

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loaded(config_of(path), cache)
    assert entries(cache) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda entry: (entry / "texts.json").unlink(),
        lambda entry: (entry / "texts.json").write_text('{"digest": "'),
        lambda entry: (entry / "totals.npy").unlink(),
        lambda entry: os.truncate(entry / "counts.data.npy", 5_000),
        lambda entry: os.truncate(entry / "counts.indices.npy", 100),
        lambda entry: os.truncate(entry / "selected.npy", 0),
        lambda entry: (shutil.rmtree(entry), entry.write_text("a file")),
        lambda entry: (shutil.rmtree(entry), entry.symlink_to("nowhere")),
    ],
)
def test_a_torn_entry_is_read_again(harm: Callable[[Path], object], path: Path, cache: CountsCache) -> None:
    expected = content(loaded(config_of(path), cache))
    (entry,) = cache.folder.iterdir()
    harm(entry)
    assert cache.find(entry.name) is None
    assert content(loaded(config_of(path), cache)) == expected
    assert cache.find(entry.name) is not None


def test_the_counts_are_mapped_and_changes_stay_in_this_process(path: Path, cache: CountsCache) -> None:
    first = loaded(config_of(path), cache).adata.X
    base = first.data
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert base is not None
    before = first.data[0]
    first.data[0] = before + 7
    assert loaded(config_of(path), cache).adata.X.data[0] == before


def test_the_least_recently_used_go_and_what_is_too_large_is_not_kept(path: Path, tmp_path: Path) -> None:
    sizes = {}
    for n_top_genes in (50, 60, 70):
        alone = CountsCache(tmp_path / str(n_top_genes), LIMIT)
        loaded(config_of(path, n_top_genes=n_top_genes), alone)
        sizes[n_top_genes] = sum(file.stat().st_size for file in alone.folder.rglob("*.*"))
    cache = CountsCache(tmp_path / "counts", sizes[60] + sizes[70] + 1_000)
    loaded(config_of(path, n_top_genes=50), cache)
    loaded(config_of(path, n_top_genes=60), cache)
    first, second = (next(iter((tmp_path / str(n)).iterdir())).name for n in (50, 60))
    assert entries(cache) == sorted([first, second])
    os.utime(cache.folder / first, (1, 1))
    os.utime(cache.folder / second, (2, 2))
    loaded(config_of(path, n_top_genes=50), cache)  # used again: the other one goes
    loaded(config_of(path, n_top_genes=70), cache)
    assert first in entries(cache)
    assert second not in entries(cache)
    assert len(entries(cache)) == 2
    small = CountsCache(tmp_path / "small", 1_000)
    loaded(config_of(path), small)
    assert entries(small) == []


def test_what_a_killed_process_left_is_removed_after_a_while(path: Path, cache: CountsCache) -> None:
    for name, age in ((".new.1-1.part", 60), (".old.1-1.part", 10**6)):
        (cache.folder / name).mkdir(parents=True)
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    loaded(config_of(path), cache)
    assert ".new.1-1.part" in entries(cache)
    assert ".old.1-1.part" not in entries(cache)


def test_a_folder_that_cannot_be_written_is_said_and_harms_nothing(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = CountsCache(tmp_path / "file" / "counts", LIMIT)
    assert content(loaded(config_of(path), cache)) == content(loaded(config_of(path), None))
    assert "The prepared counts are not kept in" in caplog.text


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning")
@pytest.mark.parametrize("kind", ["matrix folder", "zarr"])
def test_runs_inside_the_folder_of_the_data_are_no_part_of_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "zarr":
        folder, labels = tmp_path / "data.zarr", {}
        small_adata().write_zarr(folder)
        changed = folder / "X" / ".zattrs"
        changed = changed if changed.exists() else folder / "X" / "zarr.json"
    else:
        folder, labels = matrix_folder(tmp_path), {"labels": str(tmp_path / "labels.csv")}
        small_adata().obs[["cell_type"]].to_csv(labels["labels"])
        changed = folder / "features.tsv"
    monkeypatch.chdir(folder)
    cache = CountsCache(Path("runs/cache/counts"), LIMIT)
    config = file_config(Path(), **labels)
    expected = content(loaded(config, cache))
    Path("runs/mlflow.db").touch()
    assert content(loaded(config, cache)) == expected
    assert len(entries(cache)) == 1
    os.utime(changed, (1, 1))
    assert content(loaded(config, cache)) == expected
    assert len(entries(cache)) == 2


@pytest.mark.parametrize("cached", [True, False])
def test_the_cache_lies_under_the_runs_unless_it_is_off(cached: bool, path: Path, tmp_path: Path) -> None:
    words = ["data=h5ad", f"data.path={path}", "data.population_key=cell_type", f"runs_dir={tmp_path / 'runs'}"]
    config = compose_config([*words, "data.n_top_genes=100", f"cache={str(cached).lower()}"])
    prepare_dataset(config)
    assert (tmp_path / "runs" / "cache" / "counts").exists() == cached
