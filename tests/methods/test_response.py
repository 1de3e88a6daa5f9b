"""Methods that rank genes by their response, against PyDESeq2, scipy and loops."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse import csr_matrix
from tests.helpers.response_examples import donors_example

from scballast.agreement.marker_confirmation import composition_depth
from scballast.methods.cell_view import CellView
from scballast.methods.rankers import FactorView
from scballast.methods.response import (
    comparison,
    permuted_conditions,
    response_contrast_scores,
    response_de_scores,
    response_pseudobulk_scores,
    response_wilcoxon_scores,
)

REFERENCE = Path(__file__).parents[1] / "reference"


class TestPseudobulk:
    def test_paired_equals_the_reference_of_pydeseq2(self) -> None:
        # The reference compares a population with the rest within samples; here that is the condition.
        spec = importlib.util.spec_from_file_location("pydeseq2_wald", REFERENCE / "pydeseq2_wald.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        counts, samples, inside = script.example()
        view = CellView(
            counts=csr_matrix(counts.astype(np.float32)),
            total_counts=counts.sum(axis=1),
            codes=np.zeros(samples.size, dtype=np.int64),
            n_populations=1,
            populations=("planted",),
            samples=samples,
            seed=0,
            conditions=inside.astype(np.int64),
        )
        expected = pd.read_csv(REFERENCE / "pydeseq2_wald.csv", index_col=0)["stat"].abs()
        genes = [int(name.removeprefix("gene")) for name in expected.index]
        np.testing.assert_allclose(response_pseudobulk_scores(view)[0, genes], expected.to_numpy(), rtol=1e-4)

    @pytest.mark.filterwarnings("default")
    def test_between_donors_equals_pydeseq2(self) -> None:
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.ds import DeseqStats

        example = donors_example(1, paired=False, n_donors=7, n_genes=60, effect=1.0)
        cells = pd.DataFrame(example.counts.toarray().astype(int), columns=[f"g{gene}" for gene in range(60)])
        bulk = cells.groupby(example.donors).sum()
        bulk.index = [f"donor{number}" for number in bulk.index]
        of_donor = [("ref", "new")[example.conditions[example.donors == donor][0]] for donor in range(7)]
        metadata = pd.DataFrame({"condition": of_donor}, index=bulk.index)
        fitted = DeseqDataSet(counts=bulk, metadata=metadata, design="~condition", quiet=True)
        fitted.deseq2()
        test = DeseqStats(
            fitted, contrast=["condition", "new", "ref"], cooks_filter=False, independent_filter=False, quiet=True
        )
        test.summary()
        scores = response_pseudobulk_scores(example.view())[0]
        np.testing.assert_allclose(scores, test.results_df["stat"].abs().to_numpy(), rtol=1e-3, atol=1e-4)

    def test_one_donor_is_too_few(self, caplog: pytest.LogCaptureFixture) -> None:
        example = donors_example(2, paired=True, n_donors=1)
        with caplog.at_level(logging.WARNING):
            assert np.isnan(response_pseudobulk_scores(example.view())).all()
        assert "no score for population 'A': 1 and 1 donors" in caplog.messages[0]


class TestWilcoxon:
    def test_one_donor_is_mann_and_whitneys_test(self) -> None:
        example = donors_example(3, paired=True, n_donors=1)
        values = example.counts.toarray().astype(float)
        values /= composition_depth(example.counts, example.total_counts, example.conditions)[:, None]
        p_value = stats.mannwhitneyu(
            values[example.conditions == 1], values[example.conditions == 0], method="asymptotic", use_continuity=False
        ).pvalue
        np.testing.assert_allclose(response_wilcoxon_scores(example.view())[0], stats.norm.isf(p_value / 2), atol=1e-9)

    def test_up_and_down_lead_alike(self) -> None:
        example = donors_example(4, paired=True, effect=1.5)
        swapped = example.with_conditions(1 - example.conditions)
        first, second = (response_wilcoxon_scores(one.view())[0] for one in (example, swapped))
        np.testing.assert_allclose(first, second, rtol=1e-9)
        assert set(np.argsort(-first)[:20]) == set(range(20))


@dataclass(frozen=True)
class Modelled:
    """Evidence of one linear model."""

    cells: CellView
    view: FactorView | None

    def factors(self, role: str, population: int = -1) -> FactorView | None:
        assert role == "global"
        return self.view


def modelled(view: CellView, scores: np.ndarray, loadings: np.ndarray) -> Modelled:
    return Modelled(view, FactorView(scores, loadings, view.counts, view.codes))


class TestContrast:
    @pytest.mark.parametrize("paired", [True, False])
    def test_by_definition(self, paired: bool) -> None:
        rng = np.random.default_rng(5)
        example = donors_example(5, paired=paired, n_donors=6)
        # Unequal numbers of cells in every donor.
        cells = np.flatnonzero(rng.random(example.donors.size) < np.linspace(0.3, 1, 6)[example.donors])
        view = example.view(cells)
        scores, loadings = rng.normal(size=(cells.size, 3)), rng.normal(size=(200, 3))
        found = response_contrast_scores(modelled(view, scores, loadings))[0]
        donors, conditions = example.donors[cells], example.conditions[cells]
        means = {(d, c): scores[(donors == d) & (conditions == c)] for d in range(6) for c in (0, 1)}
        if paired:
            weights = [1 / (1 / len(means[d, 0]) + 1 / len(means[d, 1])) for d in range(6)]
            changes = [means[d, 1].mean(axis=0) - means[d, 0].mean(axis=0) for d in range(6)]
            direction = np.average(changes, axis=0, weights=weights)
        else:
            sides = [
                [rows.mean(axis=0) for (_, c), rows in means.items() if c == side and len(rows)] for side in (0, 1)
            ]
            direction = np.mean(sides[1], axis=0) - np.mean(sides[0], axis=0)
        change = loadings @ direction
        np.testing.assert_allclose(found, np.abs(change - change.mean()), rtol=1e-9)

    def test_differences_between_donors_do_not_matter_where_donors_have_both(self) -> None:
        rng = np.random.default_rng(6)
        example = donors_example(6, paired=True)
        cells = np.flatnonzero((rng.random(example.donors.size) < 0.4) | (example.conditions == example.donors % 2))
        view = example.view(cells)
        scores, loadings = rng.normal(size=(cells.size, 3)), rng.normal(size=(200, 3))
        shifted = scores + rng.normal(0, 5, (12, 3))[example.donors[cells]]
        first, second = (response_contrast_scores(modelled(view, z, loadings)) for z in (scores, shifted))
        np.testing.assert_allclose(first, second, atol=1e-9)

    def test_rotations_of_the_latent_space_do_not_matter(self) -> None:
        rng = np.random.default_rng(7)
        view = donors_example(7, paired=True).view()
        scores, loadings = rng.normal(size=(view.codes.size, 3)), rng.normal(size=(200, 3))
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        first = response_contrast_scores(modelled(view, scores, loadings))
        second = response_contrast_scores(modelled(view, scores @ rotation, loadings @ rotation))
        np.testing.assert_allclose(first, second, atol=1e-9)

    def test_without_a_model_or_cells_there_is_no_score(self, caplog: pytest.LogCaptureFixture) -> None:
        view = donors_example(8, paired=True).view()
        assert np.isnan(response_contrast_scores(Modelled(view, None))).all()
        alone = replace(view, conditions=np.zeros(view.codes.size, dtype=np.int64))
        with caplog.at_level(logging.WARNING):
            assert np.isnan(
                response_contrast_scores(modelled(alone, np.zeros((view.codes.size, 1)), np.ones((200, 1))))
            ).all()
        assert "response_contrast: no score for population 'A'" in caplog.text


class TestComparison:
    def test_donors_with_both_conditions_are_compared_and_no_others(self) -> None:
        conditions = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, -1])
        donors = np.array([0] * 6 + [1] * 4 + [2] * 3 + [2])
        view = replace(donors_example(9, paired=True).view(np.arange(14)), samples=donors)
        found = comparison(view, 0, conditions)
        assert found is not None
        assert found.paired
        assert found.cells.tolist() == [0, 1, 2, 3, 4, 5]

    def test_stray_cells_do_not_pair_a_donor(self) -> None:
        conditions = np.array([0, 0, 0, 1, 1, 1, 1, 0])
        view = replace(donors_example(9, paired=True).view(np.arange(8)), samples=np.repeat([0, 1], 4))
        found = comparison(view, 0, conditions)
        assert found is not None
        assert not found.paired
        assert found.cells.tolist() == [0, 1, 2, 4, 5, 6]
        assert found.n_donors.tolist() == [1, 1]

    def test_without_donors_all_cells_are_of_one(self) -> None:
        view = replace(donors_example(9, paired=True).view(), samples=None)
        found = comparison(view, 0, np.asarray(view.conditions))
        assert found is not None
        assert found.paired
        assert found.cells.size == view.codes.size


class TestPermutedConditions:
    def test_within_donors_and_populations_where_donors_have_both(self) -> None:
        rng = np.random.default_rng(10)
        donors, populations = rng.integers(0, 4, 400), rng.integers(-1, 2, 400)
        conditions = np.where(rng.random(400) < 0.1, -1, (rng.random(400) < 0.3).astype(int))
        found = permuted_conditions(conditions, populations, donors, rng)
        assert ((found < 0) == (conditions < 0)).all()
        for donor in range(4):
            for population in (-1, 0, 1):
                own = (donors == donor) & (populations == population)
                assert sorted(found[own]) == sorted(conditions[own])
        moved = (found != conditions)[conditions >= 0].mean()
        assert moved == pytest.approx(2 * 0.3 * 0.7, abs=0.08)

    def test_between_donors_where_each_has_one(self) -> None:
        donors = np.repeat(np.arange(8), 5)
        conditions = (donors < 4).astype(int)
        found = permuted_conditions(conditions, np.zeros(40, dtype=int), donors, np.random.default_rng(11))
        of_donor = found.reshape(8, 5)
        assert (of_donor == of_donor[:, :1]).all()
        # Half of either side: the label that means nothing is not the real one, nor its mirror.
        assert of_donor[:4, 0].sum() == of_donor[4:, 0].sum() == 2


def test_a_models_own_test_is_that_of_the_populations_cells() -> None:
    """The condition is compared as a population is, among the population's cells alone."""
    pytest.importorskip("scvi")
    import anndata
    from scvi.model import LinearSCVI

    from scballast.methods.model_de import model_de_scores

    example = donors_example(12, paired=True, n_donors=3, n_genes=40, effect=1.0)
    adata = anndata.AnnData(example.counts)
    LinearSCVI.setup_anndata(adata)
    model = LinearSCVI(adata, n_latent=3)
    model.is_trained_ = True
    codes = np.where(np.arange(example.donors.size) % 3 == 0, -1, 0)
    view = replace(example.view(), codes=codes)

    class WithModel:
        cells, de_mode = view, "vanilla"

        def model(self, role: str) -> object:
            return model

        def seed(self, method: str) -> int:
            return 7

    found = response_de_scores(WithModel(), "response_ldvae_de", "global")[0]
    inside = np.flatnonzero(codes == 0)
    treated = np.where(example.conditions[inside] == 1, 0, -1)
    expected = model_de_scores(model, treated, ("A",), mode="vanilla", seed=7, cells=inside)[0]
    np.testing.assert_array_equal(found, np.abs(expected))
