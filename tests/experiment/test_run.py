"""A whole experiment on a file with awkward names: what is found, what is logged, and what follows from the ranks."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scballast
from scballast.api import RunResult
from scballast.commands.report_command import main as report_command
from scballast.config.compose import compose_config
from scballast.config.schema import Config, Objective, RankConfig, ResampleConfig, TrackingConfig
from scballast.errors import ConfigError, ScballastError
from scballast.experiment import run as run_module
from scballast.experiment.metrics import collect_metrics, logged_metrics
from scballast.experiment.run import prepare_dataset, run_experiment, statistics_tables
from scballast.experiment.training import train_models
from scballast.results import is_complete, read_tables
from scballast.sweep.trial import open_tracking, run_trial
from scballast.verdict.confirmation import Confirmation
from scballast.verdict.score_set import score_set_from_rankings

ROOT = Path(__file__).parents[2]
NAMES = ("4/5 B+ cells", "T <script>'\"", "Ünïcode …")
METHODS = "axis contrast spread local conditioned per_population wilcoxon t_test residual_pca random shuffled".split()
WORDS = (
    "data.population_key=cell type,train=quick,model.n_latent=4,resample.n_replicates=4,rank.top_k=10,"
    "fit.n_mc_samples=4,association.n_permutations=49"
).split(",")

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def counts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an .h5ad of counts with planted markers, populations with hostile names and Ensembl genes."""
    import anndata
    from scipy import sparse

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [90, 60, 40])
    rates = rng.lognormal(0.0, 1.0, size=120) * np.ones((3, 1))
    for population in range(3):
        rates[population, 10 * population : 10 * population + 10] *= 4
    depth = rng.lognormal(0, 0.3, size=(labels.size, 1))
    counts = rng.poisson(rates[labels] * depth)
    adata = anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(
            {"cell type": pd.Categorical([NAMES[label] for label in labels])},
            index=[f"cell-{i}" for i in range(labels.size)],
        ),
        var=pd.DataFrame(index=[f"ENSG{i:011d}.{i % 3}" for i in range(120)]),
    )
    path = tmp_path_factory.mktemp("data") / "my counts.h5ad"
    adata.write_h5ad(path)
    return path


def run(counts_file: Path, runs: Path, *more: str) -> RunResult:
    words = ["data=h5ad", f'data.path="{counts_file}"', f"runs_dir={runs}", *WORDS, f"methods=[{','.join(METHODS)}]"]
    return scballast.run([*words, *more])


@pytest.fixture(scope="module")
def result(counts_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(counts_file, tmp_path_factory.mktemp("runs"))


def test_every_method_ranks_every_population_in_every_replicate(result: RunResult) -> None:
    lists = result.rankings.groupby(["method", "population", "replicate"], observed=True).size()
    assert (lists == 120).all()
    assert len(lists) == len(METHODS) * 3 * 4
    assert set(result.rankings["population"].unique()) == set(NAMES)


def test_planted_markers_are_found(result: RunResult) -> None:
    wilcoxon = result.consensus[result.consensus["method"] == "wilcoxon"]
    for population, name in enumerate(NAMES):
        own = wilcoxon[wilcoxon["population"] == name].nsmallest(10, "rank")
        planted = {f"ENSG{i:011d}.{i % 3}" for i in range(10 * population, 10 * population + 10)}
        assert len(planted & set(own["gene"])) >= 9


def test_marker_effects_are_those_of_all_cells_against_each_other_population(
    result: RunResult, counts_file: Path
) -> None:
    import anndata
    from scipy.stats import mannwhitneyu

    effects = result.tables["marker_effects"]
    assert len(effects) == 3 * 120
    adata = anndata.read_h5ad(counts_file)
    counts, labels = adata.X.toarray(), adata.obs["cell type"].astype(str).to_numpy()
    shares = counts[:, 0] / counts.sum(axis=1)
    pairs = [
        mannwhitneyu(shares[labels == NAMES[0]], shares[labels == other]).statistic
        / np.prod([(labels == NAMES[0]).sum(), (labels == other).sum()])
        for other in NAMES[1:]
    ]
    own = effects[(effects["population"] == NAMES[0]) & (effects["gene"] == adata.var_names[0])].iloc[0]
    assert own["min_auc"] == pytest.approx(min(pairs))
    assert own["mean_auc"] == pytest.approx(np.mean(pairs))


def test_consensus_lists_say_what_a_reader_asks_of_a_gene(result: RunResult, counts_file: Path) -> None:
    import anndata

    adata = anndata.read_h5ad(counts_file)
    inside = (adata.obs["cell type"] == NAMES[1]).to_numpy()
    own = result.consensus.query("population == @NAMES[1] and method == 't_test'").set_index("gene")
    counts = pd.DataFrame(adata.X.toarray(), columns=adata.var_names)[list(own.index)]
    scaled = counts.div(adata.X.toarray().sum(axis=1), axis=0) * 1e4
    np.testing.assert_allclose(own["pct_in"], 100 * (counts[inside] > 0).mean())
    np.testing.assert_allclose(own["pct_out"], 100 * (counts[~inside] > 0).mean())
    ratio = (scaled[inside].mean() + 1) / (scaled[~inside].mean() + 1)
    np.testing.assert_allclose(own["log2_fold_change"], np.log2(ratio), atol=1e-6)
    listed = result.answer_genes.merge(result.consensus, on=["population", "method", "gene"])
    assert len(listed) == len(result.answer_genes) > 10
    for column in ("log2_fold_change", "mean_out", "flags", "rank"):
        assert listed[f"{column}_x"].equals(listed[f"{column}_y"]), column


@pytest.mark.usefixtures("spared_work")
def test_excluded_classes_are_in_no_list_and_in_the_model(tmp_path: Path) -> None:
    words = [f"runs_dir={tmp_path}", "methods=[wilcoxon]", "programs.find=false", "resample.n_replicates=4"]
    tables = scballast.run([*words, "association.n_permutations=0", "genes.exclude=[stress]"]).tables
    stress = {"CEBPB", "DUSP1", "FOS", "HSP90AA1", "IER2", "JUNB", "NFKBIA", "UBC", "ZFP36"}
    assert len(stress & set(tables["rankings"]["gene"])) == 3
    for name in ("consensus", "answer_genes", "answer_expression"):
        assert len(tables[name])
        assert not stress & set(tables[name]["gene"]), name


def test_rankings_from_the_cache_are_the_same_and_not_announced_as_work(
    counts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=h5ad", f'data.path="{counts_file}"', *WORDS, "methods=[wilcoxon,random]", "programs.find=false"]
    dataset = prepare_dataset(compose_config(words))
    tables = []
    for added, said in (((), "scoring baselines: 8 rankings"), ((), ""), (("rank.n_components=3",), "8 rankings")):
        config = compose_config([*words, *added])
        tables.append(run_experiment(config, dataset, cache_dir=tmp_path).results.tables["rankings"])
        lines = [line for line in capsys.readouterr().err.splitlines() if "rankings" in line]
        assert (said in lines[0]) if said else lines == []
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_controls_are_not_stable(result: RunResult) -> None:
    phi = result.stability[result.stability["k"] == 10].groupby("method")["phi"].mean()
    assert abs(phi["random"]) < 0.25
    assert phi["wilcoxon"] > 0.5
    assert not set(result.answer["method"]) & {"random", "shuffled"}


def test_statistics_follow_from_the_stored_rankings(result: RunResult) -> None:
    stored = pd.read_parquet(result.folder / "tables" / "rankings.parquet")
    deterministic = {"wilcoxon", "t_test", "residual_pca"}
    score_set = score_set_from_rankings(
        stored, ResampleConfig("subsample", stored["replicate"].max() + 1), deterministic
    )
    tables = result.tables
    consensus = tables["consensus"].set_index(["method", "population", "gene"])["q_value"]
    q_values = {
        method.name: consensus[method.name].unstack("gene").reindex(score_set.populations, columns=score_set.genes)
        for method in score_set.methods
    }
    confirmation = Confirmation(
        tables["confirmation"], tables["confirmation_genes"], {name: q.to_numpy() for name, q in q_values.items()}, {}
    )
    few = pd.read_csv(result.folder / "tables" / "training.csv").query("n_steps < 500 and epochs > 0")
    assert set(few["role"]) == {"global", "conditioned", "per_population"}
    undertrained = {
        (method, name)
        for name in NAMES
        for method in ("contrast", "spread", "axis", "local", "shuffled", "conditioned", "per_population")
    }
    again = statistics_tables(score_set, confirmation, 10, undertrained=undertrained)
    for name in ("stability", "concordance", "consensus", "differences", "answer"):
        pd.testing.assert_frame_equal(again[name], result.tables[name][again[name].columns])
    headline = again["stability"].query("k == 10 and method == 'contrast'")
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics["stability/contrast"] == pytest.approx(headline["phi"].mean(), abs=1e-12)


def _overlap(result: RunResult) -> float:
    pair = result.concordance.query("method_a == 'contrast' and method_b == 'wilcoxon'")
    return float(pair["overlap"].mean())


def test_metric_names_are_those_of_the_contract(result: RunResult) -> None:
    safe = dict(zip(result.populations["population"], result.populations["safe_name"], strict=True))
    assert len(set(safe.values())) == 3
    compared = [method for method in METHODS if method not in ("random", "shuffled")]
    expected = {f"{group}/{method}" for method in compared for group in ("stability", "confirmed")}
    expected |= {"fit/heldout_nll", "fit/heldout_elbo", "axis/purity", "programs/n_replicated", "programs/in_model"}
    expected |= {"train/failures", "seconds/training", "seconds/baselines", "seconds/total"}
    assert set(result.metrics) - {"seconds/report"} == expected
    objective = Objective(f"stability/contrast/{safe[NAMES[0]]}")
    every = collect_metrics(result.tables, Config(rank=RankConfig(top_k=10)), {})
    assert every["concordance/contrast_vs_wilcoxon"] == pytest.approx(_overlap(result), abs=1e-12)
    assert set(logged_metrics(every, Config(objectives=(objective,)))) - set(result.metrics) == {objective.metric}
    assert logged_metrics(every, Config(tracking=TrackingConfig(population_metrics=True))) == every
    for metric in result.metrics:
        assert set(metric) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/"), metric


def test_fit_compares_both_models_on_the_same_cells(result: RunResult) -> None:
    by_population = result.fit[result.fit["population"] != ""]
    cells = by_population.pivot_table(index=["replicate", "population"], columns="model", values="n_cells")
    assert len(cells) == 12
    assert (cells["global"] == cells["per_population"]).all()
    weights = by_population[by_population["model"] == "global"].groupby("replicate")
    overall = result.fit[(result.fit["model"] == "global") & (result.fit["population"] == "")].set_index("replicate")
    for replicate, rows in weights:
        mean = np.average(rows["heldout_nll"], weights=rows["n_cells"])
        assert mean == pytest.approx(overall.loc[replicate, "heldout_nll"], rel=1e-9)


def test_the_run_in_mlflow_carries_the_contract(result: RunResult) -> None:
    from mlflow.tracking import MlflowClient

    runs = result.folder.parents[1]
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    stored = client.get_run(result.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params["model.n_latent"] == "4"
    assert not any(name.startswith(("data.simulation.", "tracking.")) for name in stored.data.params)
    assert stored.data.tags["scballast.dataset"] == "my_counts"
    tags = {"scballast.config_hash", "scballast.device", "scballast.versions", "mlflow.note.content"}
    assert tags <= set(stored.data.tags)
    assert "torch 2." in stored.data.tags["scballast.versions"]
    # What speaks of a process at work goes with it.
    assert not {"scballast.process", "scballast.host", "scballast.pid", "scballast.heartbeat"} & set(stored.data.tags)
    assert stored.data.tags["mlflow.note.content"].startswith("**")
    if (ROOT / ".git").exists():
        assert len(stored.data.tags["mlflow.source.git.commit"].removesuffix("-dirty")) == 40
    assert stored.data.metrics["stability/contrast"] == pytest.approx(result.metrics["stability/contrast"])
    assert stored.inputs.dataset_inputs
    names = {entry.path for entry in client.list_artifacts(result.run_id)}
    assert {"report.html", "tables", "figures", "config"} <= names
    assert len(client.get_metric_history(result.run_id, "train/elbo")) == 20


def test_the_folder_is_whole_and_reads_back(result: RunResult) -> None:
    assert is_complete(result.folder)
    stored = read_tables(result.folder)
    assert set(result.tables) == set(stored)
    for name in (result.run_id, result.folder.name, str(result.folder)):
        loaded = scballast.load(name, runs_dir=str(result.folder.parents[1]))
        assert loaded.run_id == result.run_id
        np.testing.assert_allclose(loaded.stability["phi"], result.stability["phi"])
    with pytest.raises(ConfigError, match=f"Did you mean '{result.folder.name}'"):
        scballast.load(f"{result.folder.name[:-1]}?", runs_dir=str(result.folder.parents[1]))


@pytest.mark.usefixtures("spared_work")
def test_same_config_and_seed_give_the_same_bytes(result: RunResult, counts_file: Path, tmp_path: Path) -> None:
    again = run(counts_file, tmp_path / "runs")
    first = {path.name: path.read_bytes() for path in sorted((result.folder / "tables").iterdir())}
    second = {path.name: path.read_bytes() for path in sorted((again.folder / "tables").iterdir())}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_model_and_the_genes_go_back_to_the_notebook(result: RunResult, counts_file: Path) -> None:
    import anndata
    import scanpy as sc

    adata = anndata.read_h5ad(counts_file)
    model = result.model(adata)
    loadings = model.get_loadings()
    stored = result.loadings.pivot_table(index="gene", columns="dimension", values="loading", sort=False)
    centred = loadings - loadings.mean()
    np.testing.assert_allclose(centred.loc[stored.index].to_numpy(), stored.to_numpy(), atol=1e-5)
    result.annotate(adata, groupby="cell type", method="wilcoxon")
    frame = sc.get.rank_genes_groups_df(adata, group=NAMES[0], key="scballast")
    own = result.consensus[(result.consensus["population"] == NAMES[0]) & (result.consensus["method"] == "wilcoxon")]
    assert frame["names"].tolist()[:10] == own.sort_values("rank")["gene"].tolist()[:10]


@pytest.mark.parametrize("model", ["pca", "nmf", "factor_analysis", "cnmf", "scvi"])
@pytest.mark.usefixtures("spared_work")
def test_other_models_run_under_the_same_rankers(model: str, counts_file: Path, tmp_path: Path) -> None:
    methods = {
        "pca": "contrast,spread,conditioned,per_population",
        "factor_analysis": "contrast,spread,conditioned,per_population",
        "nmf": "contrast,spread",
        "cnmf": "contrast,spread,per_population",
        "scvi": "local,hotspot,scvi_de",
    }
    words = ["data=h5ad", f'data.path="{counts_file}"', f"runs_dir={tmp_path}", *WORDS, f"model={model}"]
    words += ["model.n_latent=4", "resample.n_replicates=2", "train.max_epochs=3", f"methods=[{methods[model]}]"]
    words += ["model.n_runs=10"] if model == "cnmf" else []
    found = scballast.run(words)
    assert set(found.rankings["method"].unique()) == set(methods[model].split(","))
    if model in ("pca", "factor_analysis", "cnmf"):
        assert found.metrics["stability/contrast"] > 0.5
    if model == "scvi":
        assert np.isfinite(found.metrics["fit/heldout_nll"])


@pytest.mark.usefixtures("spared_work")
def test_the_first_answer_comes_before_the_models_and_changes_nothing(
    counts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data=h5ad", f'data.path="{counts_file}"', f"runs_dir={tmp_path}", *WORDS, "resample.n_replicates=2"]
    config = compose_config([*words, "methods=[contrast,local,wilcoxon,residual_pca,shuffled]", "programs.find=false"])
    order: list[str] = []
    seen: dict[str, pd.DataFrame] = {}
    monkeypatch.setattr(run_module, "train_models", lambda *given: (order.append("training"), train_models(*given))[1])

    def told(tables: Mapping[str, pd.DataFrame]) -> None:
        order.append("told")
        seen.update(tables)
        running = open_tracking(config).find_runs()[-1]
        assert running.status == "RUNNING"
        assert running.tags["mlflow.note.content"].startswith("**First answer**, from the methods that look at cells")
        assert "| marker | wilcoxon | " in running.tags["mlflow.note.content"]

    dataset = prepare_dataset(config)
    outcome = run_trial(config, dataset=dataset, on_first_answer=told)
    assert order == ["told", "training"]
    assert set(seen["answer"]["method"]) == {"wilcoxon", "none"}  # no program is planted
    assert set(seen["answer_genes"]["method"]) == {"wilcoxon"}
    assert not open_tracking(config).get_run(outcome.run_id).tags["mlflow.note.content"].startswith("**First")
    quiet = run_experiment(config, dataset, cache_dir=None).results.tables
    for name, table in outcome.experiment.results.tables.items():
        if name != "training":  # it has seconds
            pd.testing.assert_frame_equal(table, quiet[name])


def test_a_report_that_fails_takes_no_result_with_it(
    counts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=h5ad", f'data.path="{counts_file}"', f"runs_dir={tmp_path}", *WORDS, "resample.n_replicates=2"]
    config = compose_config([*words, "methods=[wilcoxon,residual_pca]", "programs.find=false"])

    def fails(folder: Path, others: object) -> None:
        message = "no height"
        raise ZeroDivisionError(message)

    def interrupted(folder: Path, others: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scballast.report.experiment_report.render_trial_report", interrupted)
        elsewhere = dataclasses.replace(config, runs_dir=str(tmp_path / "stopped"))
        with pytest.raises(ScballastError, match=r"cannot be made \(it was stopped\).*scballast report "):
            run_trial(elsewhere)
        assert [run.status for run in open_tracking(elsewhere).find_runs()] == ["FINISHED"]
        patch.setattr("scballast.report.experiment_report.render_trial_report", fails)
        with pytest.raises(ScballastError, match=r"cannot be made \(ZeroDivisionError: no height\).*scballast report "):
            run_trial(config)
    (folder,) = (tmp_path / "results").iterdir()
    assert is_complete(folder)
    assert set(read_tables(folder)["rankings"]["method"]) == {"wilcoxon", "residual_pca"}
    (stored,) = open_tracking(config).find_runs()
    assert stored.status == "FINISHED"
    assert (tmp_path / "artifacts" / stored.run_id / "artifacts" / "tables" / "answer.csv").is_file()
    assert not (folder / "report.html").exists()
    command = [folder.name, "--runs-dir", str(tmp_path), "--no-browser"]

    def denied(folder: Path, others: object) -> None:
        (folder / "report.html").write_text("half a page", encoding="utf-8")
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("scballast.report.experiment_report.render_trial_report", denied)
        assert report_command(command) == 1
    assert capsys.readouterr().err.endswith(f"{folder}: the report cannot be written (Permission denied).\n")
    assert not (folder / "report.html").exists()
    in_mlflow = tmp_path / "artifacts" / stored.run_id / "artifacts" / "report.html"
    assert not in_mlflow.exists()
    assert report_command(command) == 0
    assert is_complete(folder)
    assert in_mlflow.read_bytes() == (folder / "report.html").read_bytes()
    assert open_tracking(config).get_run(stored.run_id).status == "FINISHED"
    assert capsys.readouterr().out.endswith(f"{folder / 'report.html'}\n")
    assert "residual_pca" in (folder / "report.html").read_text(encoding="utf-8")
