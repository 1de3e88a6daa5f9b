"""The tables: every number against the public indices, the floors against loops, and what may change nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import rankdata, t
from tests.helpers.agreement_oracles import (
    area_under_concordance_curve,
    compare_methods,
    kendall_w,
    kuncheva_index,
    nogueira_stability,
    overlap_at_k,
    rank_biased_overlap,
    selection_frequency,
    spearman_correlation,
)
from tests.helpers.score_set_examples import ranked, signal, two_labels

from scballast.agreement.factors import match_factors, subspace_agreement
from scballast.agreement.ranking import top_k
from scballast.agreement.stability import jackknife_interval
from scballast.config.schema import ResampleConfig
from scballast.verdict.latent_tables import factors_table
from scballast.verdict.score_set import ScoreSet, rankings_table, score_set_from_rankings
from scballast.verdict.tables import (
    STABILITY_KS,
    concordance_table,
    consensus_table,
    differences_table,
    stability_table,
)

Array = npt.NDArray[Any]
Index = Callable[[Array, Array], float]
TABLES = (stability_table, concordance_table, consensus_table, differences_table)


def example(kind: str = "subsample", *, ties: bool = False) -> ScoreSet:
    scores = {
        "contrast": signal(0, 0.6, ties=ties),
        "wilcoxon": signal(1, 0.9, ties=ties),
        "spread": signal(2, 1.5, ties=ties),
        "local": signal(3, 1.0, ties=ties),
    }
    return ranked(scores, kind=kind, program=["spread", "local"], deterministic="wilcoxon")


def row(table: pd.DataFrame, **names: Any) -> Any:
    chosen = table
    for column, value in names.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def kuncheva_at(k: int) -> Index:
    def index(first: Array, second: Array) -> float:
        return float(kuncheva_index(*((np.argsort(np.argsort(-scores)) < k) for scores in (first, second))))

    return index


def others_by_loops(score_set: ScoreSet, position: int, k: int) -> float:
    """Mean Kuncheva index of a population's lists with the others', in replicates that share no cell."""
    chosen = top_k(score_set.ranks["contrast"], k)  # (replicate, population, gene)
    pairs = [(i, i + 1 if i % 2 == 0 else i - 1) for i in range(len(chosen))]
    others = [other for other in range(chosen.shape[1]) if other != position]
    return float(np.mean([kuncheva_index(chosen[i, position], chosen[j, other]) for i, j in pairs for other in others]))


def floor_by_loops(index: Index, first: Array, second: Array, position: int, reported: float, kind: str) -> float:
    """Floor of one population's index between untied scores (replicate, population, gene) of two methods."""
    n_replicates, n_populations, _ = first.shape
    if kind == "subsample":
        pairs = [(2 * i, 2 * i + 1) for i in range(n_replicates // 2)]
    else:
        pairs = [(i, (i + 1) % n_replicates) for i in range(n_replicates)]
    same, different = np.zeros((2, len(pairs), n_populations))
    for row, (i, j) in enumerate(pairs):
        for one in range(n_populations):
            others = [other for other in range(n_populations) if other != one]
            same[row, one] = np.mean([index(first[a, one], second[b, one]) for a, b in ((i, j), (j, i))])
            different[row, one] = np.mean(
                [
                    value
                    for (a, b), other in itertools.product(((i, j), (j, i)), others)
                    for value in (index(first[a, one], second[b, other]), index(first[a, other], second[b, one]))
                ]
            )
    if kind != "subsample":
        return float(different[:, position].mean())
    shared_cells = max(0.0, reported - same[:, position].mean())
    spread = math.sqrt(np.mean(np.var(same - different, axis=0, ddof=1)))  # pooled over populations
    error = t.ppf(0.95, n_populations * (len(pairs) - 1)) * spread * math.sqrt(1 + 1 / len(pairs))
    return float(different[:, position].mean() + shared_cells + error)


class TestStabilityTable:
    def test_has_a_row_for_each_method_population_and_k(self) -> None:
        table = stability_table(example(), top_k=25)
        keys = table[["method", "population", "k"]].itertuples(index=False, name=None)
        methods, populations = ("contrast", "wilcoxon", "spread", "local"), (f"population {i}" for i in range(3))
        assert list(keys) == list(itertools.product(methods, populations, [10, 20, 25, 50, 100, 200]))
        assert (table["estimand"] == ["marker"] * 36 + ["program"] * 36).all()

    @pytest.mark.parametrize("ties", [False, True])
    def test_numbers_are_those_of_the_public_indices(self, ties: bool) -> None:
        score_set = example(ties=ties)
        table = stability_table(score_set, top_k=15)
        for k in (10, 15, 50):
            found = row(table, method="contrast", population="population 1", k=k)
            selections = top_k(score_set.ranks["contrast"][:, 1], k)
            pairs = [[float(kuncheva_index(a, b)) for a in selections] for b in selections]
            interval = jackknife_interval(pairs)
            assert found["phi"] == pytest.approx(nogueira_stability(selections), abs=1e-12)
            assert (found["lower"], found["upper"]) == pytest.approx((interval.lower, interval.upper), abs=1e-12)
            assert found["disjoint"] == pytest.approx(np.mean([pairs[0][1], pairs[2][3], pairs[4][5]]), abs=1e-12)
            assert found["other_populations"] == pytest.approx(others_by_loops(score_set, 1, k), abs=1e-12)
            scores = score_set.scores["contrast"][:, 1]
            of_pairs = list(itertools.combinations(scores, 2))
            assert found["rbo"] == pytest.approx(np.mean([rank_biased_overlap(a, b) for a, b in of_pairs]))
            assert found["spearman"] == pytest.approx(np.mean([spearman_correlation(a, b) for a, b in of_pairs]))
            assert found["kendall_w"] == pytest.approx(kendall_w(scores).chance_corrected)

    @pytest.mark.parametrize("kind", ["subsample", "seed", "bootstrap"])
    def test_floors_are_those_of_loops_over_lists(self, kind: str) -> None:
        score_set = example(kind)
        table = stability_table(score_set)
        scores = score_set.scores["contrast"]
        for position in range(3):
            found = row(table, method="contrast", population=f"population {position}", k=20)
            for column, index in (
                ("phi", kuncheva_at(20)),
                ("rbo", rank_biased_overlap),
                ("spearman", spearman_correlation),
            ):
                expected = floor_by_loops(index, scores, scores, position, found[column], kind)
                name = "floor" if column == "phi" else f"{column}_floor"
                assert found[name] == pytest.approx(expected, abs=1e-9), column

    def test_replicates_without_scores_are_left_out(self) -> None:
        score_set = example()
        scores = {name: values.copy() for name, values in score_set.scores.items()}
        scores["contrast"][[1, 4], 0] = np.nan
        scores["local"][:, 2] = np.nan
        table = stability_table(ranked(scores, program=["spread", "local"]))
        found = row(table, method="contrast", population="population 0", k=20)
        kept = top_k(score_set.ranks["contrast"][[0, 2, 3, 5], 0], 20)
        assert found["n_replicates"] == 4
        assert found["phi"] == pytest.approx(nogueira_stability(kept), abs=1e-12)
        # Of the pairs (0, 1), (2, 3), (4, 5) only the second is whole.
        assert found["disjoint"] == pytest.approx(kuncheva_index(kept[1], kept[2]), abs=1e-12)
        nothing = row(table, method="local", population="population 2", k=20)
        assert math.isnan(nothing["phi"])
        assert nothing["reason"] == "no replicate has a score"

    def test_every_gene_selected(self) -> None:
        found = row(stability_table(example()), method="contrast", population="population 0", k=100)  # of 80 genes
        assert math.isnan(found["phi"])
        assert math.isnan(found["floor"])
        assert found["reason"] == "every gene is selected"
        assert found["rbo"] > 0

    @pytest.mark.parametrize(("kind", "expected"), [("seed", True), ("subsample", False)])
    def test_deterministic_methods_have_no_stability_over_seeds(self, kind: str, expected: bool) -> None:
        table = stability_table(example(kind))
        rows = table[table["method"] == "wilcoxon"]
        numbers = rows[["phi", "lower", "upper", "floor", "rbo", "spearman", "kendall_w"]]
        assert numbers.isna().all(axis=None) == expected
        assert (rows["reason"] == "n/a: deterministic").all() == expected
        assert table.loc[table["method"] == "contrast", "phi"].notna().any()

    @pytest.mark.parametrize(("n_replicates", "reason"), [(1, "one replicate"), (2, "at least 3")])
    def test_few_replicates_and_one_population(self, n_replicates: int, reason: str) -> None:
        score_set = ranked({"contrast": signal(0, 1.0, (n_replicates, 1, 60))})
        found = row(stability_table(score_set), method="contrast", k=20)
        assert math.isnan(found["phi"]) == (n_replicates == 1)
        assert math.isnan(found["lower"])
        assert math.isnan(found["floor"])
        assert reason in found["reason"]

    def test_a_score_without_information_is_neither_stable_nor_above_its_floor(self) -> None:
        table = stability_table(ranked({"contrast": np.zeros((10, 4, 400))}))
        found = table[table["k"] == 50]
        assert (found["phi"].abs() < 0.05).all()
        assert (found["lower"] < found["floor"]).all()
        assert found["spearman"].isna().all()


class TestConcordanceTable:
    def test_compares_methods_of_one_estimand_only(self) -> None:
        table = concordance_table(example())
        pairs = set(table[["method_a", "method_b", "estimand"]].itertuples(index=False, name=None))
        assert pairs == {("contrast", "wilcoxon", "marker"), ("spread", "local", "program")}
        assert len(table) == 6

    @pytest.mark.parametrize("ties", [False, True])
    def test_numbers_are_those_of_compare_methods(self, ties: bool) -> None:
        score_set = example(ties=ties)
        found = row(concordance_table(score_set, 15), method_a="spread", population="population 2")
        first, second = (score_set.scores[name][:, 2] for name in ("spread", "local"))
        expected = compare_methods(first, second, k=15)
        assert found["overlap"] == pytest.approx(expected.overlap.estimate, abs=1e-12)
        assert (found["lower"], found["upper"]) == pytest.approx((expected.overlap.lower, expected.overlap.upper))
        for name in ("rbo", "aucc", "spearman"):
            assert found[name] == pytest.approx(getattr(expected, name).estimate, abs=1e-12)

    @pytest.mark.parametrize("kind", ["subsample", "seed"])
    def test_floors_are_those_of_loops_over_lists(self, kind: str) -> None:
        score_set = example(kind)
        table = concordance_table(score_set, 20)
        first, second = score_set.scores["spread"], score_set.scores["local"]
        indices: dict[str, Index] = {
            "overlap": lambda a, b: overlap_at_k(a, b, 20),
            "rbo": rank_biased_overlap,
            "aucc": lambda a, b: area_under_concordance_curve(a, b, 20),
            "spearman": spearman_correlation,
        }
        for (name, index), position in itertools.product(indices.items(), range(3)):
            found = row(table, method_a="spread", population=f"population {position}")
            expected = floor_by_loops(index, first, second, position, found[name], kind)
            column = "floor" if name == "overlap" else f"{name}_floor"
            assert found[column] == pytest.approx(expected, abs=1e-9), name

    def test_ceilings_are_roots_of_the_products_of_stabilities(self) -> None:
        score_set = example()
        stability = stability_table(score_set, 20)
        table = concordance_table(score_set, 20)
        for population in score_set.populations:
            found = row(table, method_a="contrast", population=population)
            own = [row(stability, method=name, population=population, k=20) for name in ("contrast", "wilcoxon")]
            assert found["ceiling"] == pytest.approx(math.sqrt(own[0]["phi"] * own[1]["phi"]))
            for name in ("rbo", "spearman"):
                assert found[f"{name}_ceiling"] == pytest.approx(math.sqrt(own[0][name] * own[1][name]))

    def test_a_method_without_stability_leaves_no_ceiling(self) -> None:
        table = concordance_table(example("seed"))
        assert table.loc[table["method_a"] == "contrast", "ceiling"].isna().all()
        assert table.loc[table["method_a"] == "contrast", "overlap"].notna().all()

    def test_only_replicates_with_scores_of_both_methods_count(self) -> None:
        score_set = example()
        scores = {name: values.copy() for name, values in score_set.scores.items()}
        scores["contrast"][1, 0], scores["wilcoxon"][4, 0] = np.nan, np.nan
        scores["spread"][:3, 1], scores["local"][3:, 1] = np.nan, np.nan
        table = concordance_table(ranked(scores, program=["spread", "local"]), 15)
        found = row(table, method_a="contrast", population="population 0")
        kept = [0, 2, 3, 5]
        expected = compare_methods(*(score_set.scores[name][kept, 0] for name in ("contrast", "wilcoxon")), k=15)
        assert found["n_replicates"] == 4
        assert found["overlap"] == pytest.approx(expected.overlap.estimate, abs=1e-12)
        nothing = row(table, method_a="spread", population="population 1")
        assert math.isnan(nothing["overlap"])
        assert nothing["reason"] == "no replicate has scores of both"

    def test_disjoint_overlap_is_between_replicates_that_share_no_cell(self) -> None:
        score_set = example()
        found = row(concordance_table(score_set, 15), method_a="contrast", population="population 1")
        first, second = (score_set.scores[name][:, 1] for name in ("contrast", "wilcoxon"))
        pairs = [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)]
        expected = np.mean([overlap_at_k(first[i], second[j], 15) for i, j in pairs])
        assert found["disjoint"] == pytest.approx(expected, abs=1e-12)


class TestOtherTables:
    def test_differences_delete_the_same_replicate_from_both(self) -> None:
        score_set = example()
        found = row(differences_table(score_set, 20), method_a="contrast", population="population 0")
        selections = [top_k(score_set.ranks[name][:, 0], 20) for name in ("contrast", "wilcoxon")]
        difference = [float(nogueira_stability(chosen)) for chosen in selections]
        deleted = [
            np.subtract(*(float(nogueira_stability(np.delete(chosen, i, axis=0))) for chosen in selections))
            for i in range(6)
        ]
        error = math.sqrt(5 / 6 * np.sum((deleted - np.mean(deleted)) ** 2))
        assert found["difference"] == pytest.approx(difference[0] - difference[1], abs=1e-12)
        half = 2.5705818356363141 * error  # t with 5 degrees of freedom at 0.975
        assert (found["lower"], found["upper"]) == pytest.approx(
            (found["difference"] - half, found["difference"] + half)
        )

    def test_differences_need_two_methods_with_a_stability(self) -> None:
        found = row(differences_table(example("seed")), method_a="contrast", population="population 0")
        assert math.isnan(found["difference"])
        assert found["reason"] == "n/a: deterministic"

    def test_consensus_is_the_borda_order_with_frequencies_of_the_top(self) -> None:
        score_set = example(ties=True)
        table = consensus_table(score_set, 15)
        found = table[(table["method"] == "local") & (table["population"] == "population 1")]
        frequency = selection_frequency(top_k(score_set.ranks["local"][:, 1], 15))
        mean_rank = rankdata(-score_set.scores["local"][:, 1], axis=1).mean(axis=0)
        genes = [score_set.genes.index(gene) for gene in found["gene"]]
        assert sorted(genes) == list(range(80))
        np.testing.assert_array_equal(found["rank"], np.arange(1, 81))
        np.testing.assert_allclose(found["selection_frequency"], frequency[genes])
        np.testing.assert_allclose(found["mean_rank"], mean_rank[genes])
        order = list(zip(found["mean_rank"], -found["selection_frequency"], strict=True))
        assert order == sorted(order)

    def test_consensus_lists_are_cut(self) -> None:
        score_set = ranked({"contrast": signal(0, 1.0, (3, 2, 500))})
        assert (consensus_table(score_set, 50).groupby("population").size() == 200).all()
        assert (consensus_table(score_set, 150).groupby("population").size() == 300).all()

    def test_factor_agreement_of_each_pair_of_replicates(self) -> None:
        rng = np.random.default_rng(0)
        loadings = {"ldvae": {replicate: rng.normal(size=(50, 4)) for replicate in (0, 1, 3)}}
        table = factors_table(loadings, seed=7)
        pairs = table[["replicate_a", "replicate_b"]].itertuples(index=False, name=None)
        assert list(pairs) == [(0, 1), (0, 3), (1, 3)]
        found = row(table, replicate_a=0, replicate_b=3)
        match = match_factors(loadings["ldvae"][0], loadings["ldvae"][3], seed=7)
        assert (found["matched_correlation"], found["null"]) == (match.mean_correlation, match.null)
        assert found["subspace_cos2"] == subspace_agreement(loadings["ldvae"][0], loadings["ldvae"][3])
        assert found["chance"] == pytest.approx(4 / 49)


class TestRecomputation:
    @pytest.mark.parametrize("kind", ["subsample", "seed"])
    def test_stored_rankings_give_every_table_again_byte_for_byte(self, kind: str, tmp_path: Path) -> None:
        score_set = example(kind, ties=True)
        score_set.scores["spread"][3, 0], score_set.ranks["spread"][3, 0] = np.nan, 0
        rankings_table(score_set).to_parquet(tmp_path / "rankings.parquet")
        stored = pd.read_parquet(tmp_path / "rankings.parquet")
        again = score_set_from_rankings(
            stored, ResampleConfig(kind, score_set.n_replicates), deterministic=["wilcoxon"]
        )
        for table in TABLES:
            assert table(again).to_csv(index=False) == table(score_set).to_csv(index=False)

    def test_gene_order_changes_nothing(self) -> None:
        score_set = example(ties=True)
        order = np.random.default_rng(0).permutation(80)
        moved = replace(
            score_set,
            genes=tuple(score_set.genes[gene] for gene in order),
            scores={name: values[..., order] for name, values in score_set.scores.items()},
            ranks={name: values[..., order] for name, values in score_set.ranks.items()},
        )
        for table in TABLES:
            pd.testing.assert_frame_equal(table(moved), table(score_set), rtol=0, atol=1e-9)

    def test_one_method_more_changes_no_other_row(self) -> None:
        score_set = example()
        fewer = replace(score_set, methods=score_set.methods[1:])
        for table in TABLES:
            whole, part = table(score_set), table(fewer)
            columns = [column for column in ("method", "method_a", "method_b") if column in whole]
            kept = whole[(whole[columns] != "contrast").all(axis=1)].reset_index(drop=True)
            pd.testing.assert_frame_equal(part, kept, check_exact=True)


class TestControls:
    def test_no_label_of_a_random_split_is_stable_and_concordant_beyond_the_floor(self) -> None:
        # Stability alone is above 0 in every one of these: the replicates share cells.
        passed = []
        for seed in range(8):
            score_set = ranked(two_labels(seed))
            stability = stability_table(score_set, 30)
            stability = stability[stability["k"] == 30]
            concordance = concordance_table(score_set, 30)
            assert (stability["lower"] > 0.05).all()
            stable = stability[stability["lower"] > stability["floor"]]
            concordant = concordance[concordance["lower"] > concordance["floor"]]
            passed += [set(stable["population"]) & set(concordant["population"])]
        assert passed == [set()] * 8

    def test_labels_that_differ_are(self) -> None:
        score_set = ranked(two_labels(0, effect=0.9))
        stability = stability_table(score_set, 30)
        stability = stability[stability["k"] == 30]
        concordance = concordance_table(score_set, 30)
        assert (stability["lower"] > stability["floor"] + 0.2).all()
        assert (concordance["lower"] > concordance["floor"] + 0.2).all()

    def test_noise_agrees_with_nothing(self) -> None:
        noise = np.random.default_rng(12).normal(size=(10, 4, 400))
        table = concordance_table(ranked({"contrast": signal(0, 0.5, (10, 4, 400)), "random": noise}))
        np.testing.assert_allclose(table["overlap"], 50 / 400, atol=0.04)
        assert (table["overlap"] < table["floor"]).all()
        np.testing.assert_allclose(table["floor"], 50 / 400, atol=0.15)

    def test_all_ks_of_the_contract_are_there(self) -> None:
        assert STABILITY_KS == (10, 20, 50, 100, 200)
