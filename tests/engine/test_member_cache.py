"""Trained members come back from the cache as they were trained, and only where nothing that decides them differs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import scballast.engine.ensemble as ensemble
from scballast.engine.ensemble import fit_ensemble
from scballast.engine.interface import Member
from scballast.engine.member_cache import MemberCache

MODEL = {"n_latent": 3, "n_hidden": 8}
TRAIN = {"max_epochs": 2, "batch_size": 32}


@pytest.fixture
def adata() -> AnnData:
    counts = np.random.default_rng(0).poisson(2.0, (120, 30)).astype(np.float32)
    return AnnData(sparse.csr_matrix(counts))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the seeds of the members that are trained, as they are."""
    seeds: list[int] = []
    real = ensemble.train_on_cpu

    def train(counts: Any, kernel_counts: Any, plans: Any, *args: Any) -> Any:
        seeds.extend(plan.seed for plan in plans)
        return real(counts, kernel_counts, plans, *args)

    monkeypatch.setattr(ensemble, "train_on_cpu", train)
    return seeds


def fit(adata: AnnData, seeds: range, cache: MemberCache | None, **changes: Any) -> ensemble.Ensemble:
    if not ensemble._use_compiled("auto", ensemble.choose_device("cpu")):
        pytest.skip("no C++ compiler")
    members = [Member(cells=np.arange(60) + seed, seed=seed) for seed in seeds]
    return fit_ensemble(adata, members, {**MODEL, **changes}, TRAIN, device="cpu", cache=cache)


def assert_same(first: ensemble.Ensemble, second: ensemble.Ensemble, n_members: int) -> None:
    for member in range(n_members):
        np.testing.assert_array_equal(first.loadings(member), second.loadings(member))
        np.testing.assert_array_equal(first.posterior_means(member), second.posterior_means(member))
        assert first.history(member) == second.history(member)
        assert first.n_steps(member) == second.n_steps(member)
        heldout = np.arange(100, 120)
        one, other = (found.heldout_fit(member, heldout, 4).nll for found in (first, second))
        np.testing.assert_array_equal(one, other)


def test_members_are_trained_once_and_the_same_whether_they_come_from_the_cache(
    adata: AnnData, trained: list[int], tmp_path: Path
) -> None:
    cache = MemberCache(tmp_path, 2**30)
    without = fit(adata, range(4), None)
    trained.clear()
    fit(adata, range(2), cache)
    assert trained == [0, 1]
    # More replicates, as the next pair of a race has them: only the new ones are trained.
    grown = fit(adata, range(4), cache)
    assert trained == [0, 1, 2, 3]
    assert_same(grown, without, 4)
    model = grown.export(0)
    np.testing.assert_allclose(model.get_loadings().to_numpy(), grown.loadings(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["setting", "counts", "cells", "seed", "epochs"])
def test_whatever_decides_a_member_is_in_its_name(
    adata: AnnData, trained: list[int], tmp_path: Path, what: str
) -> None:
    cache = MemberCache(tmp_path, 2**30)
    fit(adata, range(1), cache)
    trained.clear()
    if what == "setting":
        fit(adata, range(1), cache, n_latent=4)
    elif what == "counts":
        changed = adata.copy()
        changed.X[0, 0] += 1
        fit(changed, range(1), cache)
    elif what == "cells":
        fit_ensemble(adata, [Member(cells=np.arange(61), seed=0)], MODEL, TRAIN, device="cpu", cache=cache)
    elif what == "seed":
        fit_ensemble(adata, [Member(cells=np.arange(60), seed=9)], MODEL, TRAIN, device="cpu", cache=cache)
    else:
        members = [Member(cells=np.arange(60), seed=0)]
        fit_ensemble(adata, members, MODEL, {**TRAIN, "max_epochs": 3}, device="cpu", cache=cache)
    assert len(trained) == 1


def test_the_least_recently_used_go_first(adata: AnnData, trained: list[int], tmp_path: Path) -> None:
    roomy = MemberCache(tmp_path, 2**30)
    fit(adata, range(3), roomy)
    entries = sorted(tmp_path.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate(reversed(entries)):
        os.utime(path, (1000 - age, 1000 - age))
    size = entries[0].stat().st_size
    # Member 0 is used again, so that it is not the one to go.
    fit(adata, range(1), roomy)
    MemberCache(tmp_path, 2 * size + size // 2).shrink()
    assert len(list(tmp_path.glob("*.npz"))) == 2
    trained.clear()
    fit(adata, range(1), roomy)
    assert trained == []


def test_a_torn_entry_is_trained_again(adata: AnnData, trained: list[int], tmp_path: Path) -> None:
    cache = MemberCache(tmp_path, 2**30)
    first = fit(adata, range(1), cache)
    (entry,) = tmp_path.glob("*.npz")
    entry.write_bytes(entry.read_bytes()[:200])
    trained.clear()
    assert_same(fit(adata, range(1), cache), first, 1)
    assert trained == [0]
