"""Whether an experiment fits the machine: said before it starts, with what to set; large files are sampled for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.data import load_dataset
from scballast.data.dataset import Dataset
from scballast.data.outline import Outline
from scballast.errors import ConfigError, DataError
from scballast.experiment import memory
from scballast.experiment.memory import check_fits, expected_need, memory_need, memory_obstacle
from scballast.experiment.run import prepare_dataset
from scballast.sweep.estimate import estimate

N_CELLS, N_GENES = 3_000, 400
GIGABYTE = 1e9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same counts by cells, dense and by genes; the first cells are the deepest."""
    path = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.4, 1.0, N_GENES) * rng.lognormal(0, rng.uniform(0, 1, N_GENES), (N_CELLS, N_GENES))
    counts = rng.poisson(rates * np.linspace(2.0, 0.5, N_CELLS)[:, None]).astype(np.float32)
    obs = pd.DataFrame({"cell_type": rng.choice(["T", "B", "NK"], N_CELLS)}, index=[f"cell{i}" for i in range(N_CELLS)])
    obs.loc[obs.index[::7], "cell_type"] = ""
    adata = ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]))
    adata.write_h5ad(path / "csr.h5ad")
    adata.X = adata.X.toarray()
    adata.write_h5ad(path / "dense.h5ad")
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(path / "csc.h5ad")
    return path


def config_of(path: Path, *words: str) -> Config:
    return compose_config(
        ["data=h5ad", f"data.path={path}", "data.population_key=cell_type", "data.n_top_genes=100", *words]
    )


@pytest.fixture
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scballast.data.prepared.LARGE_BYTES", 0)
    monkeypatch.setattr("scballast.data.outline.SAMPLED_VALUES", 2_000)


def loaded(config: Config, **asked: Any) -> Dataset:
    return load_dataset(config.data, seed=config.seed, **asked)


@pytest.mark.parametrize("unlabelled", ["keep", "drop"])
@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_a_sample_tells_how_many_counts_there_will_be(
    storage: str, unlabelled: str, folder: Path, every_file_is_large: None
) -> None:
    config = config_of(folder / f"{storage}.h5ad", f"data.unlabelled={unlabelled}")
    whole, sampled = loaded(config), loaded(config, outlined=True)
    assert whole.outline is None
    assert sampled.outline is not None
    assert (sampled.outline.n_cells, sampled.outline.n_genes) == whole.adata.shape == sampled.adata.shape
    assert sampled.outline.n_largest == max(population.n_cells for population in whole.populations)
    assert sampled.outline.n_values == pytest.approx(whole.adata.X.nnz, rel=0.2)
    assert sampled.populations == whole.populations
    assert np.array_equal(sampled.population_codes, whole.population_codes)


def test_of_a_matrix_by_genes_the_values_are_counted_without_reading_them(
    folder: Path, every_file_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loaded(config_of(folder / "csc.h5ad"))
    monkeypatch.setattr("scballast.data.stored_rows.WholeMatrix.to_memory", lambda self: pytest.fail("it was read"))
    outline = loaded(config_of(folder / "csc.h5ad"), outlined=True).outline
    assert outline is not None
    assert outline.by_genes
    per_gene = np.sort(ad.read_h5ad(folder / "csc.h5ad").X.getnnz(axis=0))[::-1]
    assert outline.n_values == per_gene[:100].sum() >= whole.adata.X.nnz


def test_small_files_and_those_in_memory_are_not_sampled(folder: Path) -> None:
    asked: list[object] = []
    dataset = loaded(config_of(folder / "csr.h5ad"), outlined=True, on_outline=asked.append)
    assert dataset.outline is None
    assert asked == []
    assert dataset.adata.X.nnz > N_CELLS


def test_values_that_are_no_counts_are_met_in_the_sample(folder: Path, every_file_is_large: None) -> None:
    adata = ad.read_h5ad(folder / "csr.h5ad")
    adata.X = adata.X * 0.37
    adata.write_h5ad(folder / "scaled.h5ad")
    with pytest.raises(DataError, match=r"scaled.h5ad: X is not raw counts"):
        loaded(config_of(folder / "scaled.h5ad"), outlined=True)


@pytest.mark.parametrize("storage", ["csr", "csc"])
def test_what_does_not_fit_is_refused_before_it_is_read(
    storage: str, folder: Path, every_file_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(folder / f"{storage}.h5ad", "cache=false")
    prepare_dataset(config)
    monkeypatch.setattr(memory, "machine_memory", lambda: 0.7 * GIGABYTE)
    monkeypatch.setattr("scballast.data.prepared.analysed_counts", lambda request: pytest.fail("it was read"))
    with pytest.raises(ConfigError, match=r"the experiment takes about \d\.\d GB of memory, and there are 0\.7 here"):
        prepare_dataset(config)


def test_the_genes_that_are_recommended_fit() -> None:
    config = config_of(Path("x.h5ad"), "methods=[t_test,contrast]")
    need = memory._need(config, 5_000_000, 2_000, 1_500_000_000, 400_000)
    available = 24 * GIGABYTE
    message = memory_obstacle(need, available)
    assert message is not None
    assert "the counts of 5,000,000 cells × 2,000 genes take 12.0, " in message
    n_genes = int(message.split("Set data.n_top_genes=")[1].split(",")[0])
    assert 0 < n_genes < 2_000
    for number, fits in ((n_genes, True), (n_genes + 100, False)):
        fewer = memory._need(config, 5_000_000, number, round(1_500_000_000 * number / 2_000), 400_000)
        assert (memory_obstacle(fewer, available) is None) == fits


@pytest.mark.parametrize(
    ("words", "n_bytes"),
    [
        # Half of 60,000 cells times 2,000 genes.
        (("model=glmpca", "methods=[t_test,contrast]"), 30_000 * 2_000 * 110),
        (("model=glmpca", "methods=null"), 30_000 * 2_000 * 110),
        (("model=glmpca", "methods=[t_test]"), 0),  # no model is trained
        (("model=pca", "methods=[t_test,contrast]"), 0),
        # Of a large population 5,000 cells are dense, in the search for programs twice as many.
        (("methods=[t_test,residual_pca]",), 3 * 5_000 * 2_000 * 24),  # three side by side
        (("methods=[t_test,hotspot]",), 5_000 * 2_000 * 40),
        (("methods=[t_test,residual_pca]", "programs.find=true"), 3 * 5_000 * 2_000 * 24),
    ],
)
def test_what_is_dense_is_counted_by_who_holds_it(
    words: tuple[str, ...], n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    programs = () if "programs.find=true" in words else ("programs.find=false",)
    config = config_of(Path("x.h5ad"), *programs, *words)
    need = memory._need(config, 60_000, 2_000, 12_000_000, 20_000)
    assert need.working - 0.5 * 12_000_000 * memory.WORKING_BYTES == n_bytes
    obstacle = memory_obstacle(need, 5 * GIGABYTE)
    assert (obstacle is not None) == ("model=glmpca" in words and n_bytes > 0)


def test_from_disk_a_window_and_the_models_are_counted() -> None:
    words = ["methods=[contrast]", "programs.find=false", "resample.n_replicates=4"]
    sizes = 10_000_000, 2_000, 1_000_000_000, 400_000, 40
    whole = memory._need(config_of(Path("x.h5ad"), *words), *sizes)
    streamed = memory._need(config_of(Path("x.h5ad"), *words, "train.data=stream"), *sizes)
    assert (whole.counts, whole.streamed, streamed.streamed) == (8.08 * GIGABYTE, False, True)
    assert streamed.working == whole.working
    # Three windows of 131,072 cells with 100 values of 8 bytes each; 40 bytes for each cell, and 16 for each cell of
    # four halves; weights and moments of four models.
    weights = 4 * 3 * 2_000 * (2 * 128 + 20 + 8) * 4
    assert streamed.counts == pytest.approx(3 * 131_072 * 800 + 400e6 + 4 * 5e6 * 16 + weights)
    with_populations = [words[0].replace("contrast", "contrast,per_population"), *words[1:], "train.data=stream"]
    more = memory._need(config_of(Path("x.h5ad"), *with_populations), *sizes)
    assert more.counts - streamed.counts == pytest.approx(4 * 5e6 * 16 + 40 * weights)
    obstacle = memory_obstacle(replace(streamed, working=9 * GIGABYTE), 5 * GIGABYTE)
    assert obstacle is not None
    assert "windows of the counts of 10,000,000 cells × 2,000 genes and the models take 1.1, " in obstacle


def test_counts_that_the_cache_does_not_take_cannot_stay_on_disk(
    folder: Path, every_file_is_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"runs_dir={tmp_path}", "train.data=stream", "methods=[t_test,contrast]"]
    small = config_of(folder / "csr.h5ad", *words, "cache_gib=0.0001")
    said = r"cache_gib: train\.data=stream reads .* cache_gib=0\.0001\. Set cache_gib=1\."
    with monkeypatch.context() as patch:
        patch.setattr("scballast.data.prepared.analysed_counts", lambda request: pytest.fail("it was read"))
        with pytest.raises(ConfigError, match=said):
            prepare_dataset(small)
    planned = estimate([small], lambda own: prepare_dataset(own, outlined=True))
    assert planned.obstacle is not None
    assert planned.obstacle.startswith("cache_gib: train.data=stream")
    prepare_dataset(config_of(folder / "csr.h5ad", *words))


def test_a_matrix_by_genes_is_to_be_written_by_cells() -> None:
    need = memory.MemoryNeed(1_000_000, 2_000, 2 * GIGABYTE, 36 * GIGABYTE, 4 * GIGABYTE, by_genes=True)
    message = memory_obstacle(need, 24 * GIGABYTE)
    assert message is not None
    assert "reading them 36.0, for the matrix is stored by genes (CSC)" in message
    assert "adata.X = adata.X.tocsr()" in message
    assert memory_obstacle(replace(need, by_genes=False, reading=0.0), 24 * GIGABYTE) is None


def test_a_plan_reads_a_sample_and_counts_the_same_work(
    folder: Path, every_file_is_large: None, tmp_path: Path
) -> None:
    config = config_of(
        folder / "csr.h5ad", f"runs_dir={tmp_path}", "cache=false", "plan=true", "methods=[t_test,contrast,local]"
    )

    def planned(*, outlined: bool) -> Any:
        return estimate([config], lambda own: prepare_dataset(own, outlined=outlined))

    whole, sampled = planned(outlined=False), planned(outlined=True)
    assert sampled.work == whole.work
    assert whole.reading_seconds == 0 < sampled.reading_seconds
    assert sampled.obstacle is whole.obstacle is None
    outline = loaded(config, outlined=True).outline
    assert outline is not None
    assert expected_need(config, outline).counts == pytest.approx(memory_need(config, loaded(config)).counts, rel=0.2)


def test_a_plan_copies_no_counts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"runs_dir={tmp_path}", "cache=false", "plan=true", "methods=[t_test,random]"]
    config = config_of(folder / "csr.h5ad", *words)
    monkeypatch.setattr("scballast.experiment.scoring.cell_view", lambda *_: pytest.fail("counts were copied"))
    (work,) = estimate([config], prepare_dataset).work
    assert work.rankings == 2 * config.resample.n_replicates


def test_what_may_not_fit_is_tried_with_a_warning_and_what_cannot_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need = memory.MemoryNeed(1000, 100, counts=3 * GIGABYTE, reading=0.0, working=6 * GIGABYTE)
    for available, warned in ((10.5, 0), (9.0, 1)):
        monkeypatch.setattr(memory, "machine_memory", lambda available=available: available * GIGABYTE)
        check_fits(need)
        assert sum("The estimate is rough: it is tried." in text for text in caplog.messages) == warned
    monkeypatch.setattr(memory, "machine_memory", lambda: 7.9 * GIGABYTE)
    with pytest.raises(ConfigError, match=r"about 10\.0 GB of memory, and there are 7\.9 here"):
        check_fits(need)


def test_a_limit_on_addresses_is_a_limit_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    need = memory.MemoryNeed(200, 300, counts=0.0, reading=0.0, working=0.0)
    limits = {"soft": resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits["soft"], resource.RLIM_INFINITY))
    whole = memory.machine_memory()
    assert whole > 2 * GIGABYTE
    check_fits(need)
    limits["soft"] = 1_500_000 * 1024
    assert memory.machine_memory() == pytest.approx(0.236 * GIGABYTE)
    with pytest.raises(ConfigError, match=r"about 1\.0 GB .* leaves 0\.2, .* Raise it \(ulimit -v 2246094 or more\)"):
        check_fits(need)
    limits["soft"] = 2_500_000 * 1024
    check_fits(need)
    limits["soft"] = 1
    assert memory.machine_memory() == 0


def test_more_counts_than_can_be_left_on_disk_are_said_before_they_are_read() -> None:
    config = config_of(Path("x.h5ad"), "train.data=stream", "cache_gib=1000")
    outline = Outline(30_000_000, 2_000, 3_000_000_000, 1_000_000, 0, 0.0, by_genes=False)
    said = memory.cache_obstacle(config, outline)
    assert said is not None
    assert said.startswith(
        "train.data: stream reads 2,147,483,647 counts at most from disk, and the analysed genes have"
    )
    assert memory.cache_obstacle(config, replace(outline, n_values=2_000_000_000)) is None
