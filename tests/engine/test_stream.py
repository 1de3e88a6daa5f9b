"""Training from windows of counts on disk: the same members as in memory, from one reading per epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.engine_examples import QUIET_SCVI, small_adata

from scballast.engine import Member, ensemble, fit_ensemble, shuffled_copy, trainer_cpu
from scballast.engine.ensemble import Ensemble
from scballast.engine.member_cache import MemberCache
from scballast.engine.schedule import epoch_order
from scballast.engine.stored_counts import StoredArray, StoredCounts, stored_counts
from scballast.engine.windows import Windows, windowed_order
from scballast.errors import ConfigError, DataError, ScballastError

pytestmark = [pytest.mark.filterwarnings(w) for w in QUIET_SCVI]
MODEL = {"n_hidden": 16, "n_latent": 4}
TRAIN = {"max_epochs": 3, "batch_size": 32}
ADATA = small_adata()
N_MEMBERS = 7


def seven_members() -> list[Member]:
    """Different cells, sizes, epochs and structures; cells that come twice; validation."""
    cells = np.random.default_rng(5).permutation(ADATA.n_obs)
    return [
        Member(None, 1),
        Member(cells[:60], 2, {"n_latent": 2, "lr": 0.01, "check_val_every_n_epoch": 2}),
        Member(cells[:2], 4, {"max_epochs": 5}),
        Member(cells[50:], 2**40 + 7, {"gene_likelihood": "zinb", "use_observed_lib_size": True}),
        Member(np.repeat(cells[:50], 2), 6, {"batch_size": 7}),
        Member(cells[:80], 7, {"latent_distribution": "ln", "early_stopping": True, "early_stopping_patience": 1}),
        Member(cells[5:], 8, {"decoder": "nonlinear", "n_layers": 2}),
    ]


def mapped(adata: AnnData, folder: Path) -> AnnData:
    """Return the same cells with their counts in files."""
    arrays = []
    for name, array in (("data", adata.X.data), ("indices", adata.X.indices)):
        np.save(folder / f"{name}.npy", array)
        arrays.append(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")))
    return AnnData(
        sp.csr_matrix((*arrays, adata.X.indptr), shape=adata.shape, copy=False), obs=adata.obs, var=adata.var
    )


@pytest.fixture
def use_windows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], Windows]:
    """Return what sets the windows of the trainings to come."""

    def use(block_cells: int, window_cells: int) -> Windows:
        monkeypatch.setattr(ensemble, "Windows", partial(Windows, block_cells=block_cells, window_cells=window_cells))
        return Windows(ADATA.n_obs, block_cells, window_cells)

    return use


def assert_same(first: Ensemble, second: Ensemble, n_members: int = N_MEMBERS) -> None:
    heldout = np.arange(20, 50)
    for i in range(n_members):
        theirs = second._result(i).packed.tensors
        for name, value in first._result(i).packed.tensors.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=f"{i} {name}")
        assert first.history(i) == second.history(i)
        assert first.n_steps(i) == second.n_steps(i)
        np.testing.assert_array_equal(first.posterior_means(i), second.posterior_means(i))
        np.testing.assert_array_equal(first.heldout_fit(i, heldout, 4).nll, second.heldout_fit(i, heldout, 4).nll)


def in_memory(order: Callable[..., Any] | None = None, members: list[Member] | None = None) -> Ensemble:
    with pytest.MonkeyPatch.context() as patch:
        if order is not None:
            patch.setattr(trainer_cpu, "epoch_order", order)
        return fit_ensemble(ADATA, members or seven_members(), MODEL, TRAIN, batch_key="batch", device="cpu")


def streamed(adata: AnnData, members: list[Member] | None = None, cache: MemberCache | None = None) -> Ensemble:
    return fit_ensemble(
        adata, members or seven_members(), MODEL, TRAIN, batch_key="batch", device="cpu", data="stream", cache=cache
    )


class TestSameAsInMemory:
    def test_with_a_window_as_large_as_the_data(self, tmp_path: Path) -> None:
        assert_same(streamed(mapped(ADATA, tmp_path)), in_memory())

    @pytest.mark.parametrize(("block_cells", "window_cells"), [(1, 3), (8, 16), (7, 100)])
    def test_with_the_same_order(
        self,
        block_cells: int,
        window_cells: int,
        tmp_path: Path,
        use_windows: Callable[[int, int], Windows],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(shuffled_copy, "_BUCKET", 50)
        windows = use_windows(block_cells, window_cells)
        expected = in_memory(lambda cells, seed, epoch: windowed_order(cells, seed, epoch, windows)[0])
        assert_same(streamed(mapped(ADATA, tmp_path)), expected)
        assert any(
            expected.history(i)["elbo_train"] != curve
            for i, curve in enumerate(in_memory().history(i)["elbo_train"] for i in range(N_MEMBERS))
        )

    def test_alone_and_among_others(self, use_windows: Callable[[int, int], Windows]) -> None:
        use_windows(4, 20)
        together, members = streamed(ADATA), seven_members()
        for i in (1, 4):
            alone = streamed(ADATA, [members[i]])
            np.testing.assert_array_equal(alone.loadings(0), together.loadings(i))
            assert alone.history(0) == together.history(i)

    def test_a_member_that_diverges_is_dropped(self, use_windows: Callable[[int, int], Windows]) -> None:
        use_windows(4, 20)
        members = [Member(None, 1), Member(None, 2, {"lr": 1e20})]
        fitted = streamed(ADATA, members)
        assert fitted.failures == in_memory(members=members).failures
        assert list(fitted.failures) == [1]
        np.testing.assert_array_equal(fitted.loadings(0), streamed(ADATA, members[:1]).loadings(0))


class TestReading:
    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Return the number of rows that each window reads, and that it holds."""
        sizes: list[tuple[int, int]] = []
        plain, joined = StoredCounts.read, ensemble.StoredCounts.of_cells

        def reading(self: StoredCounts, rows: Any, gap: int = 0) -> Any:
            found = plain(self, rows, gap)
            sizes.append((len(found.cells), len(found.cells)))
            return found

        def of_cells(self: StoredCounts, cells: Any, *arrays: Any) -> Any:
            if sizes and len(cells) > sizes[-1][0]:
                sizes[-1] = (sizes[-1][0], len(cells))
            return joined(self, cells, *arrays)

        monkeypatch.setattr(StoredCounts, "read", reading)
        monkeypatch.setattr(StoredCounts, "of_cells", of_cells)
        return sizes

    def test_all_members_are_trained_from_one_reading_of_a_window_at_a_time(
        self, read: list[tuple[int, int]], use_windows: Callable[[int, int], Windows]
    ) -> None:
        windows = use_windows(4, 24)
        members = [Member(None, seed, {"max_epochs": 2, "train_size": 1.0}) for seed in range(6)]
        streamed(ADATA, members)
        assert len(read) == 2 * windows.n_windows
        assert sum(rows for rows, _ in read) == 2 * ADATA.n_obs
        # What is left over is less than a minibatch of each member.
        assert max(held for _, held in read) <= 24 + 6 * 31
        assert max(held for _, held in read) > 24

    def test_what_fits_a_window_is_read_once(
        self, read: list[tuple[int, int]], use_windows: Callable[[int, int], Windows]
    ) -> None:
        use_windows(4, 24)
        far_apart = np.arange(0, 120, 12)
        members = [Member(None, 0, {"max_epochs": 1, "train_size": 1.0}), Member(far_apart, 1, {"max_epochs": 9})]
        streamed(ADATA, members)
        assert len(read) == 5 + 1

    def test_rows_are_those_of_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scballast.engine.stored_counts._CHUNK", 100)
        stored = stored_counts(mapped(ADATA, tmp_path), None, "batch", None)
        assert stored.stored_values.path == tmp_path / "data.npy"
        assert stored.stored_genes.path == tmp_path / "indices.npy"
        np.testing.assert_array_equal(stored.totals(), np.asarray(ADATA.X.sum(axis=1)).ravel())
        rows = stored.read(np.array([3, 4, 50, 119]), gap=5)
        assert rows.cells.tolist() == [3, 4, 50, 119]
        assert stored.read(np.array([3, 9, 16]), gap=5).cells.tolist() == [3, 4, 5, 6, 7, 8, 9, 16]
        more = rows.and_of(stored.read(np.arange(60, 80)), np.array([61, 75]), stored)
        for found, cells in ((rows, [3, 4, 50, 119]), (more, [3, 4, 50, 119, 61, 75])):
            counts = found.counts
            matrix = sp.csr_matrix((counts.values, counts.genes, counts.row_starts), shape=(len(cells), ADATA.n_vars))
            np.testing.assert_array_equal(matrix.toarray(), ADATA.X[cells].toarray())
            np.testing.assert_array_equal(counts.batch, ADATA.obs["batch"].cat.codes.to_numpy()[cells])
        assert more.places(np.array([75, 3])).tolist() == [5, 0]

    def test_numbers_of_other_types_and_parts_of_arrays_are_read(self, tmp_path: Path) -> None:
        np.save(tmp_path / "long.npy", np.arange(50))
        array = StoredArray(np.load(tmp_path / "long.npy", mmap_mode="r")[10:40], np.int32)
        assert array.path == tmp_path / "long.npy"
        found = array.read(5, 25)
        assert found.dtype == np.int32
        assert found.tolist() == list(range(15, 35))

    def test_empty_rows_have_no_counts(self) -> None:
        counts = np.array([[0, 0], [1, 2], [0, 0], [0, 0], [3, 0], [0, 0]], np.float32)
        assert stored_counts(AnnData(sp.csr_matrix(counts)), None, None, None).totals().tolist() == [0, 3, 0, 0, 3, 0]

    def test_a_file_that_goes_or_shrinks_is_named(self, tmp_path: Path) -> None:
        adata = mapped(ADATA, tmp_path)
        array = StoredArray(adata.X.data, np.float32)
        size = (tmp_path / "data.npy").stat().st_size
        with (tmp_path / "data.npy").open("r+b") as file:
            file.truncate(size - 40)
        with pytest.raises(DataError, match=r"data\.npy: it ends early"):
            array.read(array.size - 20, array.size)
        (tmp_path / "data.npy").unlink()
        # Held open for as long as it is mapped; what was not opened in time cannot be.
        assert StoredArray(adata.X.data, np.float32).read(0, 3).tolist() == adata.X.data[:3].tolist()
        (tmp_path / "indices.npy").unlink()
        with pytest.raises(DataError, match=r"indices\.npy: the counts cannot be read again"):
            StoredArray(adata.X.indices, np.int32)


class TestShuffledCopy:
    def test_it_is_the_counts_in_the_order_of_training_and_written_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shuffled_copy, "_BUCKET", 50)
        windows = Windows(ADATA.n_obs, 4, 20)
        counts = stored_counts(mapped(ADATA, tmp_path), None, "batch", None)
        rows = shuffled_copy.ShuffledRows(counts, windows).read(np.arange(ADATA.n_obs), gap=0)
        np.testing.assert_array_equal(rows.cells, windows.cell_at)
        found = rows.counts
        matrix = sp.csr_matrix((found.values, found.genes, found.row_starts), shape=ADATA.shape)
        np.testing.assert_array_equal(matrix.toarray(), ADATA.X[windows.cell_at].toarray())
        np.testing.assert_array_equal(found.batch, counts.batch[windows.cell_at])
        genes, values = (np.load(path) for path in sorted(tmp_path.glob("shuffled-*.npy")))
        np.testing.assert_array_equal(genes, found.genes)
        np.testing.assert_array_equal(values, found.values)
        monkeypatch.setattr(shuffled_copy.ShuffledRows, "_write", lambda *_: pytest.fail("it was written again"))
        again = shuffled_copy.ShuffledRows(counts, windows).read(np.array([7, 3]), gap=0)
        assert sorted(again.cells.tolist()) == [3, 7]

    def test_other_counts_in_the_same_file_have_another(self, tmp_path: Path) -> None:
        windows = Windows(ADATA.n_obs, 4, 20)
        shuffled_copy.ShuffledRows(stored_counts(mapped(ADATA, tmp_path), None, None, None), windows)
        changed = ADATA.copy()
        changed.X.data += 1
        other = stored_counts(mapped(changed, tmp_path), None, None, None)
        rows = shuffled_copy.ShuffledRows(other, windows).read(np.array([5]), gap=0)
        np.testing.assert_array_equal(rows.counts.values, changed.X[5].data)

    def test_cells_that_lie_by_population_are_spread_over_the_windows(self) -> None:
        windows = Windows(100_000, 100, 10_000)
        population = np.arange(100_000) // 10_000
        window = windows.of_blocks(0)[windows.place // 100]
        shares = np.array([np.bincount(population[window == k], minlength=10) for k in range(10)]) / 10_000
        # As of a random sample: 0.1 with a standard deviation of 0.003.
        assert abs(shares - 0.1).max() < 0.013
        in_order = Windows(100_000, 100, 10_000, shuffled=False)
        window = in_order.of_blocks(0)[in_order.place // 100]
        shares = np.array([np.bincount(population[window == k], minlength=10) for k in range(10)]) / 10_000
        assert abs(shares - 0.1).max() > 0.04

    def test_a_full_disk_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

        counts = stored_counts(mapped(ADATA, tmp_path), None, None, None)
        monkeypatch.setattr("numpy.lib.format.open_memmap", full)
        with pytest.raises(ScballastError, match=r"random order, 0\.0 GB.*No space left on device.*Make room"):
            shuffled_copy.ShuffledRows(counts, Windows(ADATA.n_obs, 4, 20))


class TestCache:
    def test_members_that_ended_are_kept_when_the_others_are_killed(
        self, tmp_path: Path, use_windows: Callable[[int, int], Windows], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_windows(4, 20)
        members = [Member(None, seed, {"max_epochs": 2 + seed}) for seed in range(3)]
        expected, cache = streamed(ADATA, members), MemberCache(tmp_path, 2**30)

        def killed(_: int) -> None:
            if len(list(tmp_path.glob("*.npz"))) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(
                ADATA, members, MODEL, TRAIN, "batch", device="cpu", data="stream", cache=cache, on_progress=killed
            )
        assert len(list(tmp_path.glob("*.npz"))) == 2
        trained: list[int] = []
        real = ensemble.train_streamed

        def counted(counts: Any, windows: Any, plans: Any, *rest: Any) -> Any:
            trained.extend(plan.seed for plan in plans)
            return real(counts, windows, plans, *rest)

        monkeypatch.setattr(ensemble, "train_streamed", counted)
        assert_same(streamed(ADATA, members, cache), expected, 3)
        assert trained == [2]

    def test_members_trained_in_memory_are_others(
        self, tmp_path: Path, use_windows: Callable[[int, int], Windows]
    ) -> None:
        cache, members = MemberCache(tmp_path, 2**30), [Member(None, 1)]
        fit_ensemble(ADATA, members, MODEL, TRAIN, "batch", device="cpu", cache=cache)
        for n, sizes in enumerate([(4, 20), (4, 40), (8, 40)], start=2):
            use_windows(*sizes)
            for _ in range(2):
                streamed(ADATA, members, cache)
                assert len(list(tmp_path.glob("*.npz"))) == n


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 100), st.integers(0, 5), st.sampled_from([0, 1, 2**40]))
def test_an_order_takes_each_window_whole(
    n_cells: int, block_cells: int, window_cells: int, epoch: int, seed: int
) -> None:
    windows = Windows(n_cells, block_cells, window_cells)
    own = windows.of_blocks(epoch)
    sizes = np.bincount(own)
    assert len(sizes) == windows.n_windows
    assert sizes.max() - sizes.min() <= 1
    assert sizes.max() * block_cells <= max(window_cells, block_cells) + block_cells - 1
    cells = np.random.default_rng(seed).integers(0, n_cells, 50).astype(np.int32)
    order, ends = windowed_order(cells, seed, epoch, windows)
    np.testing.assert_array_equal(np.sort(order), np.sort(cells))
    assert ends[-1] == len(cells)
    window_of_place = np.searchsorted(ends, np.arange(len(cells)), side="right")
    np.testing.assert_array_equal(own[windows.place[order] // block_cells], window_of_place)
    np.testing.assert_array_equal(windows.cell_at[windows.place], np.arange(n_cells))
    if windows.n_windows == 1:
        np.testing.assert_array_equal(order, epoch_order(cells, seed, epoch))


def test_blocks_are_dealt_anew_in_each_epoch_and_cells_within_a_window_to_each_member() -> None:
    windows = Windows(400, 5, 100)
    assert (windows.of_blocks(0) != windows.of_blocks(1)).mean() > 0.5
    cells = np.arange(400, dtype=np.int32)
    (one, ends), (other, _) = (windowed_order(cells, seed, 0, windows) for seed in (1, 2))
    assert set(one[: ends[0]]) == set(other[: ends[0]])
    assert (one[: ends[0]] != other[: ends[0]]).mean() > 0.9


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"data": "disk"}, r"data='disk' is unknown\. Allowed: memory \| stream"),
        ({"data": "stream", "kernels": "torch"}, r"train\.data: stream .* not in plain torch.*device=cpu"),
    ],
)
def test_what_cannot_be_streamed_is_refused(asked: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit_ensemble(ADATA, [Member(None, 1)], MODEL, TRAIN, device="cpu", **asked)


def test_a_device_that_holds_all_counts_is_refused_before_the_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from scballast.config.compose import compose_config
    from scballast.experiment.run import check_without_data

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_without_data(compose_config(["train.data=stream", "device=cpu"]))
    with pytest.raises(ConfigError, match=r"train\.data: stream .* not on cuda.*Use device=cpu"):
        check_without_data(compose_config(["train.data=stream"]))


def test_counts_are_checked(tmp_path: Path) -> None:
    adata = ADATA.copy()
    adata.X.data[7] = -1
    with pytest.raises(DataError, match="X is not counts"):
        streamed(mapped(adata, tmp_path))
