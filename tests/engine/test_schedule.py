"""Epochs, splits, minibatches, KL weight, early stopping and noise against scvi-tools and published values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from scipy import stats
from scvi.dataloaders._data_splitting import validate_data_split
from scvi.model._utils import get_max_epochs_heuristic
from scvi.train._trainingplans import _compute_kl_weight
from tests.helpers.engine_examples import keep_mask

from scballast.engine import noise, torch_noise
from scballast.engine.schedule import (
    EarlyStopping,
    default_max_epochs,
    epoch_order,
    kl_weight,
    minibatch_starts,
    split_positions,
    split_sizes,
    warmup_epochs,
)
from scballast.engine.settings import TrainSettings


@given(st.integers(2, 3_000_000))
def test_default_epochs_are_those_of_scvi(n_cells: int) -> None:
    assert default_max_epochs(n_cells) == get_max_epochs_heuristic(n_cells)


@given(st.integers(4, 5000), st.sampled_from([None, 0.5, 0.8, 0.9, 1.0]), st.sampled_from([16, 128, 1000]))
def test_split_sizes_are_those_of_scvi(n_cells: int, train_size: float | None, batch_size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = validate_data_split(n_cells, train_size or 0.9, None, batch_size, False, train_size is None)
    assert split_sizes(n_cells, train_size, batch_size) == expected


@pytest.mark.parametrize("n_cells", [2, 3])
def test_cells_too_few_for_scvi_are_all_trained_on(n_cells: int) -> None:
    n_train, n_validation = split_sizes(n_cells, None, 128)
    assert n_train >= 2
    assert n_train + n_validation == n_cells


def test_split_is_that_of_scvi_under_the_same_seed() -> None:
    permutation = np.random.RandomState(seed=11).permutation(np.arange(50))  # scvi.dataloaders.DataSplitter.setup
    train, validation = split_positions(50, 11, None, 128)
    np.testing.assert_array_equal(validation, permutation[:5])
    np.testing.assert_array_equal(train, permutation[5:])


@given(st.integers(2, 3000), st.integers(2, 300))
def test_minibatches_cover_every_cell_once_and_none_has_one_cell(n_train: int, batch_size: int) -> None:
    sizes = np.diff(minibatch_starts(n_train, batch_size))
    assert sizes.sum() == n_train
    assert sizes.min() >= 2
    assert sizes.max() <= batch_size + 1
    if n_train % batch_size != 1:
        assert len(sizes) == -(-n_train // batch_size)


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    cells = np.arange(100, 160, dtype=np.int32)
    orders = [epoch_order(cells, seed, epoch) for seed, epoch in [(1, 0), (1, 1), (2, 0), (1, 0)]]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), cells)
    np.testing.assert_array_equal(orders[0], orders[3])
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != orders[2]).any()


@given(st.integers(0, 900), st.sampled_from([0, 1, 50, 400]), st.sampled_from([(0.0, 1.0), (0.1, 0.7)]))
def test_kl_weight_is_that_of_scvi(epoch: int, n_warmup: int, limits: tuple[float, float]) -> None:
    settings = TrainSettings(kl_warmup_epochs=n_warmup, min_kl_weight=limits[0], max_kl_weight=limits[1])
    ours = kl_weight(epoch, warmup_epochs(settings, 500), settings)
    assert ours == pytest.approx(_compute_kl_weight(epoch, 0, n_warmup, None, limits[1], limits[0]))


def test_warmup_as_a_share_of_the_epochs() -> None:
    assert warmup_epochs(TrainSettings(kl_warmup_epochs=0.5), 80) == 40
    assert warmup_epochs(TrainSettings(kl_warmup_epochs=1.0), 80) == 80
    assert warmup_epochs(TrainSettings(kl_warmup_epochs=1), 80) == 1
    assert warmup_epochs(TrainSettings(kl_warmup_epochs=None), 80) == 0


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(1, 5), st.sampled_from([0.0, 0.5]))
def test_early_stopping_is_that_of_lightning(losses: list[float], patience: int, min_delta: float) -> None:
    ours = EarlyStopping(TrainSettings(early_stopping_min_delta=min_delta, early_stopping_patience=patience))
    theirs = LightningEarlyStopping("loss", min_delta=min_delta, patience=patience, check_finite=False)
    for loss in losses:
        expected, _ = theirs._evaluate_stopping_criteria(torch.tensor(loss, dtype=torch.float64))
        assert ours.should_stop(loss) == expected
        if expected:
            break


def test_early_stopping_ignores_its_warmup() -> None:
    stopping = EarlyStopping(TrainSettings(early_stopping_patience=1, early_stopping_warmup_epochs=2))
    assert [stopping.should_stop(loss) for loss in (1.0, 2.0, 3.0, 4.0)] == [False, False, False, True]


def test_philox_gives_the_published_words() -> None:
    # kat_vectors of Random123: counter and key all zero.
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    np.testing.assert_array_equal(noise.philox(0, 0, 0, 4), np.array(expected, dtype=np.uint32))


def test_noise_has_the_right_distribution() -> None:
    draws = noise.normals(5, 7, noise.LATENT, (400, 50))
    assert stats.kstest(draws.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.2
    kept = keep_mask(5, 7, noise.DROPOUT, (400, 50), 0.1).mean()
    assert kept == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 20_000))


def test_torch_noise_is_the_same_for_members_of_different_size() -> None:
    seeds, steps, sizes = [3, 2**40 + 1], [1, 2**33], [(5, 3), (7, 2)]
    tensors = [torch.tensor(values) for values in (seeds, steps, sizes)]
    drawn = [(noise.LATENT, (8, 4)), (noise.DROPOUT, (8, 4))]
    for_normals, for_keep = torch_noise.philox(*tensors[:2], drawn)
    normals = torch_noise.normals_from(for_normals, tensors[2], (8, 4), torch.float64)
    keep = torch_noise.keep_mask_from(for_keep, tensors[2], (8, 4), torch.tensor([0.1, 0.5]))
    for i, (rows, columns) in enumerate(sizes):
        expected = noise.normals(seeds[i], steps[i], noise.LATENT, (rows, columns))
        np.testing.assert_allclose(normals[i, :rows, :columns].numpy(), expected, rtol=1e-12)
        mask = keep_mask(seeds[i], steps[i], noise.DROPOUT, (rows, columns), (0.1, 0.5)[i])
        np.testing.assert_array_equal(keep[i, :rows, :columns].numpy(), mask.astype(bool))
