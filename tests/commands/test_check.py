"""``scballast check`` from end to end: a planted list is confirmed, a random one is not, and every answer is clear."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tests.commands.test_terminal import started
from tests.helpers.report_page import Page

from scballast.commands.check_command import main as check
from scballast.commands.check_summary import list_cells, print_lists
from scballast.commands.report_command import find_folder
from scballast.config.compose import compose_config
from scballast.errors import ConfigError, DataError
from scballast.experiment.check import check_config
from scballast.experiment.run import prepare_dataset
from scballast.report.stored_tables import read_table

pytestmark = pytest.mark.filterwarnings("default")

DATA = (
    "data=simulated",
    "data.simulation.n_genes=300",
    "data.simulation.n_markers=20",
    "data.simulation.n_programs=1",
    "data.simulation.n_program_genes=20",
    "data.simulation.population_sizes=[200,200,100]",
    "data.n_top_genes=200",
    "resample.n_replicates=4",
    "methods=[wilcoxon,residual_pca,random]",
)


@pytest.fixture(scope="module")
def truth() -> Any:
    return prepare_dataset(check_config(compose_config(DATA)))


@pytest.fixture(scope="module")
def folder(truth: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a check of a true list, a random one, and names of all kinds."""
    root = tmp_path_factory.mktemp("check")
    names = np.asarray(truth.adata.var_names, dtype=object)
    first, second, third = (population.name for population in truth.populations)
    planted = names[np.argsort(-truth.truth.marker_effect[0])[:15]]
    without = ~(truth.truth.marker_sets | truth.truth.program_sets).any(axis=0)
    nothing = np.random.default_rng(0).choice(names[without], 15, replace=False)
    rows = [(first, gene.upper()) for gene in planted]
    rows += [(second, gene) for gene in nothing]
    rows += [(third, names[0]), (third, "no_such_gene"), ("nobody", names[0])]
    pd.DataFrame(rows, columns=["population", "gene"]).to_csv(root / "atlas.csv", index=False)
    assert check([str(root / "atlas.csv"), *DATA, f"runs_dir={root / 'runs'}"]) == 0
    return find_folder("atlas", root / "runs")


def stored(folder: Path, name: str) -> pd.DataFrame:
    return read_table(folder / "tables" / f"{name}.csv")


def test_a_planted_list_is_confirmed_and_a_random_one_is_not(folder: Path, truth: Any) -> None:
    table = stored(folder, "check").set_index(["population", "estimand"])
    first, second, third = (population.name for population in truth.populations)
    assert table.loc[(first, "marker"), "verdict"] == "holds"
    assert table.loc[(first, "marker"), "confirmed"] > 0.9
    assert table.loc[(second, "marker"), "verdict"].startswith("no better than")
    assert table.loc[(second, "program"), "verdict"] != "holds"
    assert table.loc[(third, "program"), "reason"] == "one gene is no program: two vary together"
    methods = stored(folder, "check_methods").set_index(["population", "method"])
    assert methods.loc[(first, "wilcoxon"), "agrees"]
    assert not methods.loc[(second, "wilcoxon"), "agrees"]


def test_what_failed_and_what_was_missed_is_listed(folder: Path, truth: Any) -> None:
    genes, missed = stored(folder, "check_genes"), stored(folder, "check_missed")
    first, _, third = (population.name for population in truth.populations)
    own = genes[genes["population"] == first]
    assert own["confirmed_marker"].mean() > 0.9
    assert own["found"].str.startswith("another case").all()
    assert list(genes.loc[genes["population"] == third, "why"])[1].startswith("not in the data")
    assert not set(zip(missed["population"], missed["gene"], strict=True)) & set(
        zip(genes["population"], genes["gene"], strict=True)
    )
    assert set(missed["population"]) <= {population.name for population in truth.populations}
    assert len(missed)


def test_the_page_is_whole_and_says_the_same(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    cells = [" ".join("".join(inner).split()) for tag, _, inner in page.elements if tag == "td"]
    verdicts = ["".join(inner) for _, attributes, inner in page.elements if "verdict" in attributes.get("class", "")]
    assert verdicts == list(stored(folder, "check")["verdict"])
    genes = stored(folder, "check_genes")
    for gene in genes["gene"][genes["gene"] != ""]:
        assert gene in cells
    assert "'nobody' is no population of the data and is left out." in text.replace("&#39;", "'")


@pytest.mark.parametrize("width", [30, 45, 60, 80])
def test_the_terminal_table_fits(folder: Path, width: int) -> None:
    tables = {name: stored(folder, name) for name in ("check", "check_methods", "check_genes", "check_missed")}
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_lists(console, tables)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line) for line in lines) <= width
    flat = " ".join(" ".join(lines).split())
    assert "not tested: no_such_gene" in flat
    # No word is broken: verdicts, populations and genes can be read, whatever the width.
    check = tables["check"]
    held = check[check["verdict"] == "holds"].iloc[0]
    own = tables["check_genes"][tables["check_genes"]["population"] == held.population]
    first = own[~own["confirmed_marker"] & ~own["confirmed_program"]]["symbol"].head(6)
    named = tables["check_missed"].sort_values(["estimand", "rank"])["symbol"].drop_duplicates()
    words = set(flat.replace(",", " ").replace(";", " ").split())
    assert set(check["population"]) <= words
    assert {*first, "confirmed", "floor", "marker", "program", "holds"} <= words
    assert len(set(named) & words) > 3
    if width < 70:
        assert f"{held.population}, {held.estimand} holds; confirmed {list_cells(held)[3]}; floor " in flat


def test_python_gives_what_the_command_gives(folder: Path, tmp_path: Path) -> None:
    import scballast

    path = folder.parents[2] / "atlas.csv"
    words = [*DATA, f"runs_dir={tmp_path / 'runs'}"]
    found = scballast.check(pd.read_csv(path), words)
    for name in ("check", "check_genes", "check_methods", "check_missed"):
        written = read_table(found.folder / "tables" / f"{name}.csv")
        pd.testing.assert_frame_equal(written, stored(folder, name))
        assert list(found.tables[name].columns) == list(written.columns)
    first = str(found.check["population"].iloc[0])
    assert list(found.genes(first)["rank"]) == list(range(1, 16))
    assert found.genes(first)["confirmed_marker"].mean() > 0.9
    assert set(found.missed(first)["population"]) == {first}
    assert not set(found.missed(first)["gene"]) & set(found.genes(first)["gene"])
    with pytest.raises(ConfigError, match="population: 'nobody' is not known"):
        found.genes("nobody")
    assert any("'nobody' is no population of the data" in warning for warning in found.warnings)
    assert repr(found).startswith(f"CheckResult: {(found.check['verdict'] == 'holds').sum()} of 6 readings hold.")
    # A notebook shows each list in both readings, the first holding, the second's genes failing.
    rows = re.findall(r"<tr>(.*?)</tr>", found._repr_html_())
    assert len(rows) == 1 + 6
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert cells[1][:3] == [first, "marker", "holds"]
    assert cells[1][cells[0].index("agrees with")].startswith("wilcoxon ")
    fails = cells[3][cells[0].index("fails")].split(", ")
    assert len(fails) == 8
    assert set(fails) <= set(found.genes(cells[3][0])["symbol"])
    assert scballast.check(path, words).check.equals(found.check)
    with pytest.raises(DataError, match=r"genes: a dict is not read\. Give a path, or a DataFrame"):
        scballast.check({"B": ["CD79A"]}, words)  # type: ignore[arg-type]


@pytest.mark.usefixtures("spared_work")
def test_a_finished_run_is_used_with_its_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import scballast

    words = [*DATA[:-1], "methods=[wilcoxon,t_test]", "programs.find=false", f"runs_dir={tmp_path / 'runs'}"]
    run = scballast.run(words)
    names = run.rankings["gene"].unique()
    population = str(run.answer["population"].iloc[0])
    lists = tmp_path / "l.csv"
    lists.write_text(f"population,gene\n{population},{names[0]}\n{population},{names[1]}\n", encoding="utf-8")
    assert check([str(lists), *DATA[:-1], f"runs_dir={tmp_path / 'runs'}"]) == 0
    assert f"Rankings of the finished run {run.folder.name}" in capsys.readouterr().out
    assert check([str(lists), "--run", run.folder.name, f"runs_dir={tmp_path / 'runs'}"]) == 0
    methods = stored(find_folder(None, tmp_path / "runs"), "check_methods")
    assert set(methods["method"]) == {"wilcoxon", "t_test"}
    again = scballast.check(lists, [f"runs_dir={tmp_path / 'runs'}"], run=run)
    assert set(again.check_methods["method"]) == {"wilcoxon", "t_test"}
    with pytest.raises(ConfigError, match=r"so 'seed=1' cannot be set"):
        scballast.check(lists, ["seed=1"], run=run)
    with pytest.raises(ConfigError, match=r"--run: data and replicates are the run's, so 'seed=1' cannot be set"):
        check([str(lists), "--run", run.folder.name, "seed=1", f"runs_dir={tmp_path / 'runs'}"])
    # Other replicates are others' rankings.
    assert (
        check([str(lists), *DATA[:-1], "seed=1", "baselines.methods=[wilcoxon]", f"runs_dir={tmp_path / 'runs'}"]) == 0
    )
    assert "were run for this check" in capsys.readouterr().out


def test_lists_of_other_names_are_refused_with_the_reason(tmp_path: Path) -> None:
    lists = tmp_path / "l.csv"
    lists.write_text("population,gene\na,ENSG00000153563\na,ENSG00000010610\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"none of its 2 genes is one of the data: .* of different species"):
        check([str(lists), *DATA, f"runs_dir={tmp_path / 'runs'}"])
    with pytest.raises(ConfigError, match=r"resample\.kind: thin"):
        check([str(lists), *DATA, "resample.kind=thin", f"runs_dir={tmp_path / 'runs'}"])


def test_cheap_errors_come_before_heavy_imports(tmp_path: Path) -> None:
    lists = tmp_path / "l.csv"
    lists.write_text("population,name\na,b\n", encoding="utf-8")
    found = started("check", str(lists))
    assert (found.returncode, found.stderr.splitlines()[-1]) == (2, "loaded ")
    assert "there is no column 'gene'. Did you mean 'gene'" not in found.stderr
    assert "there is no column 'gene'." in found.stderr
    assert started("check", "--help").stdout.startswith("usage: scballast check")
    lists.write_text("population,gene\na,b\n", encoding="utf-8")
    found = started("check", str(lists), "data=h5ad", f"data.path={tmp_path}/no.h5ad", "data.population_key=a")
    assert "no.h5ad: there is no such file." in found.stderr
    assert found.stderr.splitlines()[-1] == "loaded "
