"""Results in AnnData, drawn by scanpy's own plots."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scballast.annotate import KEY, annotate, annotate_programs
from scballast.errors import DataError

NAMES = ("B/plasma", "NK", "T cell")
GENES = tuple(f"GENE{i}" for i in range(30))
# Of the last population no method is trusted.
TRUSTED = {"B/plasma": "wilcoxon", "NK": "contrast", "T cell": "none"}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:FutureWarning",  # scanpy's use of anndata, pandas and seaborn
    "ignore:.*:DeprecationWarning",
    "ignore:FigureCanvasAgg is non-interactive:UserWarning",
)


def consensus() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {
                "population": name,
                "method": method,
                "estimand": "marker",
                "gene": rng.permutation(GENES)[:10],
                "rank": np.arange(1, 11),
                "selection_frequency": np.linspace(1, 0.1, 10),
                "mean_rank": np.arange(1, 11) + 0.5,
                "log2_fold_change": rng.normal(size=10),
            }
        )
        for name in NAMES
        for method in ("wilcoxon", "contrast")
    ]
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0).sort_values("population")


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    rows = [{"population": name, "estimand": "marker", "method": method} for name, method in TRUSTED.items()]
    return {"consensus": consensus(), "answer": pd.DataFrame(rows)}


@pytest.fixture
def adata() -> Iterator[AnnData]:
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"label": pd.Categorical(np.repeat(NAMES, 10))}, index=[f"c{i}" for i in range(30)])
    counts = sp.csr_matrix(rng.poisson(1.0, (30, len(GENES))).astype(np.float32))
    yield AnnData(counts, obs=obs, var=pd.DataFrame(index=list(GENES)))
    plt.close("all")


def expected(tables: dict[str, pd.DataFrame], population: str, method: str) -> list[str]:
    table = tables["consensus"]
    own = table[(table["population"] == population) & (table["method"] == method)]
    return list(own.sort_values("rank")["gene"])


def test_rank_genes_groups_draws_the_genes_of_the_trusted_methods(
    tables: dict[str, pd.DataFrame], adata: AnnData
) -> None:
    import scanpy as sc

    annotate(adata, tables, groupby="label")
    sc.pl.rank_genes_groups(adata, key=KEY, n_genes=5, show=False, sharey=False)
    panels = {axes.get_title().removesuffix(" vs. rest"): axes for axes in plt.gcf().axes}
    assert set(panels) == {"B/plasma", "NK"}
    for population, axes in panels.items():
        shown = [text.get_text() for text in axes.texts]
        assert shown == expected(tables, population, TRUSTED[population])[:5]
        heights = [text.get_position()[1] for text in axes.texts]
        np.testing.assert_allclose(heights, -(np.arange(1, 6) + 0.5), rtol=1e-6)
        kept = adata.uns[KEY]["selection_frequency"][population]
        np.testing.assert_allclose(kept, np.linspace(1, 0.1, 10), rtol=1e-6)


def test_dotplot_and_heatmap_draw_one_method_in_every_population(
    tables: dict[str, pd.DataFrame], adata: AnnData
) -> None:
    import scanpy as sc

    annotate(adata, tables, groupby="label", method="contrast")
    wanted = [gene for name in NAMES for gene in expected(tables, name, "contrast")[:3]]
    drawn = sc.pl.rank_genes_groups_dotplot(adata, key=KEY, n_genes=3, dendrogram=False, show=False)
    labels = [tick.get_text() for tick in drawn["mainplot_ax"].get_xticklabels()]
    assert labels == wanted
    assert [tick.get_text() for tick in drawn["mainplot_ax"].get_yticklabels()] == list(NAMES)
    heat = sc.pl.rank_genes_groups_matrixplot(adata, key=KEY, n_genes=3, dendrogram=False, show=False)
    assert [tick.get_text() for tick in heat["mainplot_ax"].get_xticklabels()] == wanted


def test_results_survive_a_file(tables: dict[str, pd.DataFrame], adata: AnnData, tmp_path: object) -> None:
    import anndata
    import scanpy as sc

    annotate(adata, tables, groupby="label", method="wilcoxon")
    adata.write_h5ad(f"{tmp_path}/x.h5ad")
    back = anndata.read_h5ad(f"{tmp_path}/x.h5ad")
    frame = sc.get.rank_genes_groups_df(back, "NK", key=KEY)
    assert list(frame["names"]) == expected(tables, "NK", "wilcoxon")


def test_fold_changes_are_those_of_the_tables_whatever_x_holds(tables: dict[str, pd.DataFrame], adata: AnnData) -> None:
    own = tables["consensus"].query("population == 'NK' and method == 'contrast'").set_index("gene")
    for scale in (1.0, 0.5):
        adata.X = adata.X * scale
        annotate(adata, tables, groupby="label", method="contrast")
        names = adata.uns[KEY]["names"]["NK"]
        assert list(adata.uns[KEY]["logfoldchanges"]["NK"]) == list(own.loc[names, "log2_fold_change"])


def test_nothing_to_draw_is_said(tables: dict[str, pd.DataFrame], adata: AnnData) -> None:
    with pytest.raises(DataError, match=r"no consensus genes for method='axis'; methods .* contrast, wilcoxon"):
        annotate(adata, tables, groupby="label", method="axis")
    assert KEY not in adata.uns


def test_programs_find_cells_and_genes_whose_names_have_odd_blanks(adata: AnnData) -> None:
    tables = {
        "program_activity": pd.DataFrame(
            {"population": "NK", "program": "P1", "cell": ["c0", "c1"], "activity": [0.5, -1.0]}
        ),
        "programs": pd.DataFrame({"population": "NK", "program": "P1", "gene": ["GENE1"], "weight": [2.0]}),
        "program_summary": pd.DataFrame({"population": ["NK"]}),
    }
    adata.obs_names = ["c0 ", *adata.obs_names[1:]]
    adata.var_names = ["GENE0", " GENE1", *adata.var_names[2:]]
    annotate_programs(adata, tables)
    assert adata.obsm[f"{KEY}_programs"]["NK P1"].tolist()[:2] == [0.5, -1.0]
    assert adata.varm[f"{KEY}_programs"].index.equals(adata.var_names)
    assert adata.varm[f"{KEY}_programs"]["NK P1"].tolist()[:3] == [0.0, 2.0, 0.0]
