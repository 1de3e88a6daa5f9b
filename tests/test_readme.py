"""Every number that README states, and every command, is what the benchmarks stored and the program takes.

The stored tables are written by ``tests/reference/readme.py``, whose head has the commands.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from tests.benchmarks import bench_objectives, bench_truth

import scballast
from scballast.commands.terminal import _overrides, _sweeps
from scballast.config.compose import check_sweep_words, compose_config
from scballast.methods.registry import METHODS
from scballast.models import FAMILIES
from scballast.sweep.space import enumerate_points, point_words, split_words

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "reference"
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

DEMO = pd.read_csv(REFERENCE / "readme_demo.csv").set_index("method")
ANSWER = pd.read_csv(REFERENCE / "readme_answer.csv", keep_default_na=False, na_values=[""])
TRUTH = pd.read_csv(REFERENCE / "readme_truth.csv")
OBJECTIVES = (
    pd.read_csv(REFERENCE / "readme_objectives.csv").set_index(["objective", "method"]).sort_index()["spearman"]
)
SETTINGS = (
    pd.read_csv(REFERENCE / "readme_settings.csv").set_index(["likelihood", "latent", "method", "data"]).sort_index()
)
SHOWN_SEED = bench_truth.SEEDS[0]
FAMILY_NAMES = {"switches": "switch", "switch": "switch", "additive": "additive"}


def tables(text: str) -> list[list[list[str]]]:
    """Return the rows of every table of a Markdown text, the head first, cells without their markup."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M)
    rows = [[line.strip("|").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for n, row in enumerate(block) if n != 1] for block in rows]


def method_of(cell: str) -> str:
    found = re.match(r"`(\w+)`", cell)
    assert found, cell
    assert found[1] in METHODS
    return found[1]


def table_of(text: str, *heads: str) -> list[list[str]]:
    """Return the one table whose head begins so."""
    (found,) = [table for table in tables(text) if tuple(table[0][: len(heads)]) == heads]
    return found


def data_set(column: str, last: str) -> tuple[str, int]:
    """Return the family and the depth that a column's name says; a name without a family has the one before it."""
    words = re.findall(r"[a-z]+|[\d,]+", column)
    family = next((FAMILY_NAMES[word] for word in words if word in FAMILY_NAMES), last)
    (depth,) = [int(word.replace(",", "")) for word in words if word[0].isdigit()]
    return family, depth


def lead(data_sets: pd.DataFrame) -> pd.Series:
    """Return what sparse_factors finds more than the best other method of cells alone, by data set."""
    keys = ["family", "depth", "seed"]
    wide = data_sets.pivot(index=keys, columns="method", values="average_precision")
    return wide["sparse_factors"] - wide[list(bench_truth.OF_CELLS)].max(axis=1)


def test_the_table_of_the_demo_is_what_the_demo_gave() -> None:
    head, *rows = table_of(README, "marker", "confirmed", "Φ")
    assert len(rows) >= 5
    for row in rows:
        for (cell, confirmed, phi), estimand in ((row[:3], head[0]), (row[3:], head[3])):
            name = method_of(cell)
            assert METHODS[name].estimand == estimand == DEMO.loc[name, "estimand"]
            stored = DEMO.loc[name, ["confirmed", "phi"]]
            assert (confirmed, phi) == (f"{stored.confirmed:.2f}", f"{stored.phi:.2f}"), name
            # Who needs trained models is said beside the name.
            assert ("(LDVAE)" in cell) == (bool(METHODS[name].roles) and not METHODS[name].control)


def test_the_table_of_truth_is_what_the_benchmark_gave() -> None:
    (columns, *rows) = next(table for table in tables(RESULTS) if table[0][0] == "with models" and len(table[0]) > 2)
    stored = TRUTH[TRUTH["seed"] == SHOWN_SEED].set_index(["family", "depth", "method"])["average_precision"]
    family = ""
    for position, column in enumerate(columns[1:], start=1):
        family, depth = data_set(column, family)
        shown = {method_of(row[0]): row[position] for row in rows}
        assert shown == {name: f"{stored[family, depth, name]:.2f}" for name in shown}


def test_the_means_of_the_results_are_those_of_the_stored_data_sets() -> None:
    columns, *rows = table_of(RESULTS, "cells alone")
    means = TRUTH.groupby(["family", "depth", "method"])["average_precision"].mean()
    for position, column in enumerate(columns[1:], start=1):
        family, depth = data_set(column, "")
        shown = {method_of(row[0]): row[position] for row in rows}
        assert shown == {name: f"{means[family, depth, name]:.2f}" for name in shown}


def test_the_table_of_objectives_is_what_the_benchmark_gave() -> None:
    columns, *rows = table_of(RESULTS, "objective", "`contrast`")
    for objective, *cells in rows:
        for column, cell in zip(columns[1:5], cells, strict=False):
            stored = OBJECTIVES[objective.strip("`"), column.strip("`")]
            assert cell == " / ".join(f"{value:.2f}" for value in stored), (objective, column)


def test_what_readme_concludes_follows_from_the_stored_tables() -> None:
    programs = DEMO[DEMO["estimand"] == "program"]
    markers = DEMO[(DEMO["estimand"] == "marker") & ~DEMO.index.isin(["random", "shuffled"])]
    assert DEMO.loc["contrast", "confirmed"] > DEMO.loc["wilcoxon", "confirmed"] - 0.01
    assert markers["confirmed"].idxmax() == "wilcoxon"
    assert markers["confirmed"].idxmin() == markers["phi"].idxmin() == "axis"
    assert programs["phi"].idxmax() == "within_dispersion"
    assert programs["confirmed"].idxmax() == "cross_covariance"
    shown = [method_of(row[3]) for row in table_of(README, "marker", "confirmed", "Φ")[1:]]
    assert DEMO.loc["per_population", "confirmed"] < DEMO.loc["residual_pca", "confirmed"] - 0.05
    assert list(DEMO.loc[shown, "confirmed"]) == sorted(DEMO.loc[shown, "confirmed"], reverse=True)
    one = TRUTH[TRUTH["seed"] == SHOWN_SEED].pivot(
        index=["family", "depth"], columns="method", values="average_precision"
    )
    assert (one.idxmax(axis=1) == "sparse_factors").all()
    assert (one["per_population"] < one["residual_pca"]).all()
    assert (lead(TRUTH) > 0).all()


def prose() -> str:
    """Return README without blocks of code, code within lines, tables, pictures, links' targets and the licence."""
    text = re.sub(r"```.*?```", "", README, flags=re.S)
    text = re.sub(r"^\|.*\|$", "", text, flags=re.M)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return re.sub(r"BSD-3-Clause|pbmc68k|pbmc3k|10x|h5", "", text)


def test_every_other_number_of_the_prose_is_accounted_for() -> None:
    demo = compose_config(["experiment=demo"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    gains = lead(TRUTH[TRUTH["seed"] != SHOWN_SEED])
    most = DEMO[DEMO["estimand"] == "program"]["phi"].max()
    true = pd.concat([OBJECTIVES[f"confirmed/{name}", name] for name in ("contrast", "local")])
    loss = pd.concat([OBJECTIVES["fit/heldout_nll", name] for name in ("contrast", "local")])
    axis = {latent: SETTINGS["confirmed"]["nb", latent, "axis"] for latent in ("ln", "normal")}
    spoken = {name: [f"{axis[name][data]:.2f}" for data in ("pbmc68k", "Kang", "pbmc3k")] for name in axis}
    contrast = SETTINGS["confirmed"].xs("contrast", level="method")
    inflated = contrast["zinb", "normal"]
    losses = SETTINGS["heldout_nll"].xs("contrast", level="method").xs("normal", level="latent")
    assert all(losses["zinb", data] < losses["nb", data] for data in ("Kang", "pbmc3k"))
    regret = pd.read_csv(REFERENCE / "readme_objectives.csv").set_index(["objective", "method"]).sort_index()["regret"]
    lost = list(regret["fit/heldout_nll", "local"])
    assert max(regret["fit/heldout_nll", "contrast"]) <= max(regret["confirmed/contrast", "contrast"])
    stable = OBJECTIVES["stability/local", "local"]
    assert demo.rank.top_k in set(ANSWER["genes_that_hold"])
    assert 47 in set(ANSWER["genes_that_hold"])
    said = [
        f"at least 47 of {demo.rank.top_k} hold",
        f"Python {project['requires-python'].replace('>=', '≥ ')},",
        f"{ANSWER['population'].nunique()} populations, {demo.resample.n_replicates} halves",
        f"share of the top {demo.rank.top_k} that",
        f"by {gains.min():.2f} to {gains.max():.2f} (average precision, {len(gains)} data sets)",
        f"highest Φ of the program methods ({most:.2f})",
        "{}, {} and {} of its genes hold on , Kang and , ".format(*spoken["ln"])
        + "{}, {} and {} with the normal".format(*spoken["normal"]),
        f"has {contrast['nb'].min():.2f} to {contrast['nb'].max():.2f} with either",
        f"only {inflated.min():.2f} to {inflated.max():.2f} hold",
        f"for it costs {lost[0]:.2f} and {lost[1]:.2f}",
        f"over {bench_objectives.N_CONFIGURATIONS} configurations on each",
        f"(rank correlation {true.min():.2f} to {true.max():.2f})",
        f"({loss.min():.2f} to {loss.max():.2f}; better among models of one likelihood), "
        f"nor does the Φ of ({stable.min():.2f} to {stable.max():.2f})",
    ]
    text = " ".join(prose().split())
    assert [words for words in said if words not in text] == []
    rest = text
    for words in said:
        rest = rest.replace(words, "")
    assert re.findall(r"\d+(?:[.,]\d+)*", rest) == []


def commands(path: Path) -> list[str]:
    """Return the commands of a page: lines of its blocks of code, without what is said of them."""
    # Blocks of every language are matched, so that none begins at another's end.
    blocks = re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.split(" #")[0].strip() for language, block in blocks if not language for line in block.splitlines()]
    return [line for line in lines if line.startswith(("scballast", "make"))]


@pytest.mark.parametrize(
    ("page", "command"), [(page.name, command) for page in PAGES for command in commands(page)], ids=str
)
def test_every_command_is_understood(page: str, command: str) -> None:
    name, *words = shlex.split(command)
    if name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[0]}:.*##", makefile, flags=re.M), f"{page}: {command}"
        return
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert name in scripts
    if name != "scballast" or words == ["report"]:
        return
    if words[0] == "check":
        assert words[1].endswith(".csv")
        words = words[2:]
    if not _sweeps(words):
        assert compose_config(_overrides(words)).data.kind
        return
    overrides = _overrides(words)
    check_sweep_words(overrides)
    first = compose_config([word for word in overrides if split_words([word], {})[0]])
    shared, space = split_words(overrides, first.sweep.search_space)
    assert space
    points = list(enumerate_points(space)) if first.sweep.kind == "grid" else [{d.key: d.ends()[0] for d in space}]
    for point in points:
        assert compose_config([*shared, *point_words(space, point)]).model.name in FAMILIES


def test_the_names_of_the_python_example_are_there() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    homes = {"scballast": scballast, "result": scballast.RunResult}
    assert [name for name in sorted(used) if name[0] in homes and not hasattr(homes[name[0]], name[1])] == []
    assert {("scballast", "run"), ("scballast", "check"), ("result", "genes"), ("result", "annotate")} <= used


def test_the_pages_hold_commands() -> None:
    found = {page.name: commands(page) for page in PAGES}
    assert sum("-m" in command for command in found["README.md"]) == 2
    assert len(found["README.md"]) == 9
    assert len(found["own_data.md"]) == 5
