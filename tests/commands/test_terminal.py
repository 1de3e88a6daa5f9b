"""What the terminal says before anything heavy is imported, and how it fits narrow windows."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
from rich.console import Console
from tests.helpers.data_examples import small_adata
from tests.helpers.prepared_processes import start

import scballast
from scballast.commands.help_page import described_keys, help_text
from scballast.commands.report_command import find_folder
from scballast.commands.report_command import main as report
from scballast.commands.summary import print_answers
from scballast.commands.terminal import _errors_said
from scballast.config.schema import Config, DataConfig, conf_dir, to_leaves
from scballast.data.early import check_file, suggestions
from scballast.errors import ConfigError, DataError
from scballast.results import MARKER

HEAVY = {"torch", "scvi", "scanpy", "anndata", "mlflow", "pandas"}


def started(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own that says which heavy libraries it had loaded at its end."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: sys.stderr.write('loaded ' + ' '.join(sorted({HEAVY!r} & set(sys.modules)))))\n"
        "from scballast.commands.terminal import main\n"
        f"sys.argv = ['scballast', *{words!r}]\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_version_is_ours() -> None:
    found = started("--version")
    assert found.stdout == f"scballast {scballast.__version__}\n"
    assert found.stderr == "loaded "


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EIO, errno.ESTALE])
def test_what_a_disk_refuses_is_one_message(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, _errors_said():
        raise OSError(number, os.strerror(number), "runs/x")
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"A file cannot be read or written (runs/x): {os.strerror(number)}. Look at the disk and ulimit -f, and run it "
        "again.\n"
    )
    with pytest.raises(FileNotFoundError), _errors_said():
        raise FileNotFoundError(errno.ENOENT, "a fault of ours")


def test_every_key_is_described_in_the_help_at_any_width() -> None:
    leaves = [key for key in to_leaves(Config()) if not key.startswith("data.simulation.")]
    assert [key for key, _, meaning in described_keys() if not meaning] == []
    for width in (40, 80, 120):
        text = help_text(width)
        assert all(f"{key}=" in text for key in leaves)
    assert "subsample | seed | bootstrap" in " ".join(help_text(120).split())


def test_help_into_a_closed_pipe_says_nothing() -> None:
    line = f"{sys.executable} -m scballast.commands.terminal --help | head -1"
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("scballast: which genes")
    assert found.stderr == ""


def test_a_wrong_path_is_said_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    found = started(
        "data=h5ad", f"data.path={tmp_path / 'none.h5ad'}", "data.population_key=a", f"runs_dir={tmp_path / 'r'}"
    )
    assert found.returncode == 2
    assert "none.h5ad: there is no such file." in found.stderr
    assert found.stderr.splitlines()[-1] == "loaded "
    assert not (tmp_path / "r").exists()


def test_a_misspelt_column_is_named_with_its_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        obs = file.create_group("obs")
        obs.attrs["_index"] = "names"
        obs.attrs["column-order"] = ["Cell_Type", "donor"]
    check_file(DataConfig(kind="file", path=str(path), population_key="Cell_Type", sample_key="donor"))
    with pytest.raises(
        ConfigError, match=r"no obs column 'cell_typ'\. Did you mean 'Cell_Type'\? Columns: 'Cell_Type'"
    ):
        check_file(DataConfig(kind="file", path=str(path), population_key="cell_typ"))
    both = DataConfig(kind="file", path=str(path), population_key="cell_typ", batch_key="q", sample_key="donr")
    with pytest.raises(ConfigError) as caught:
        check_file(both)
    assert str(caught.value) == (
        f"data.population_key: {path} has no obs column 'cell_typ'. Did you mean 'Cell_Type'? data.batch_key: it has "
        "no obs column 'q'. data.sample_key: it has no obs column 'donr'. Did you mean 'donor'? Columns: 'Cell_Type', "
        "'donor'."
    )
    with pytest.raises(DataError, match="no such file"):
        check_file(DataConfig(kind="file", path=str(tmp_path / "x.h5ad"), population_key="a"))
    labels = tmp_path / "labels.csv"
    labels.write_text("cell,kind\na,B\n", encoding="utf-8")
    config = DataConfig(kind="file", path=str(path), population_key="kind", labels=str(labels))
    check_file(config, ["donor"])
    with pytest.raises(
        ConfigError,
        match=r"association\.keys: .*, with labels\.csv, has no obs column 'donr'\. Did you .* The header of "
        r"labels\.csv reads 'cell', 'kind'\.$",
    ):
        check_file(config, ["donr"])
    with pytest.raises(DataError, match=r"absent\.csv: there is no such file of labels"):
        check_file(replace(config, labels=str(tmp_path / "absent.csv")))
    with pytest.raises(DataError, match=r"there is no such file\. Did you mean 'cells\.h5ad'\?"):
        check_file(DataConfig(kind="file", path=str(tmp_path / "cell.h5ad"), population_key="a"))


@pytest.mark.parametrize("file", [".zattrs", "zarr.json"])
def test_columns_of_a_zarr_are_looked_at_too(tmp_path: Path, file: str) -> None:
    attributes: dict[str, Any] = {"column-order": ["cell_type"], "_index": "i"}
    obs = tmp_path / "cells.zarr" / "obs"
    obs.mkdir(parents=True)
    inside = attributes if file == ".zattrs" else {"zarr_format": 3, "attributes": attributes}
    (obs / file).write_text(json.dumps(inside), encoding="utf-8")
    check_file(DataConfig(kind="file", path=str(tmp_path / "cells.zarr"), population_key="cell_type"))
    with pytest.raises(ConfigError, match="Did you mean 'cell_type'"):
        check_file(DataConfig(kind="file", path=str(tmp_path / "cells.zarr"), population_key="celltype"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=counts.h5ad"], "data: 'counts.h5ad' is a file. Give it as data=h5ad data.path=counts.h5ad"),
        (["data=../mtx/"], "data: '../mtx/' is a file. Give it as data=h5ad data.path=../mtx/"),
        (["data=pbmc68"], "data: 'pbmc68' is not known. Did you mean 'pbmc68k'?"),
        (["experiment=demp"], "experiment: 'demp' is not known. Did you mean 'demo'?"),
        (["-m", "experiment=demp", "model.n_latent=2,4"], "experiment: 'demp' is not known. Did you mean 'demo'?"),
        (
            ["-m", "data=h5ad", "data.path=no.h5ad", "data.population_key=a", "model.n_latent=2,4"],
            "no.h5ad: there is no such file.",
        ),
    ],
)
def test_what_is_meant_is_said_before_anything_heavy_is_loaded(words: list[str], said: str, tmp_path: Path) -> None:
    found = started(*words, f"runs_dir={tmp_path / 'r'}")
    assert found.returncode == 2
    assert found.stderr.startswith(said), found.stderr
    assert found.stderr.splitlines()[-1] == "loaded "


_TWO_TRIALS = """
import logging.config, sys, yaml
settings = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
settings["handlers"].pop("file")
settings["root"]["handlers"] = ["console"]
log = logging.getLogger("scballast.test")
for _ in range(2):  # as a trial's process does before every trial
    logging.config.dictConfig(settings)
    log.warning("Warning: %s", "few cells")
    log.info("Trial 3.")
log.warning("Warning: %s", "few genes")
"""


def test_a_sweep_says_a_warning_once() -> None:
    # In a process of its own: configuring the logging closes the handlers of all that runs in this one.
    settings = conf_dir() / "hydra" / "job_logging" / "scballast.yaml"
    done = subprocess.run(
        [sys.executable, "-c", _TWO_TRIALS, str(settings)], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["Warning: few cells", "Trial 3.", "Trial 3.", "Warning: few genes"]


def test_a_table_of_labels_is_read_without_anything_heavy(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("cell,kind\na,B\n", encoding="utf-8")
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file.create_group("obs").attrs["column-order"] = ["donor"]
    words = [f"data.path={tmp_path}/cells.h5ad", f"data.labels={tmp_path}/labels.csv", "data.population_key=knd"]
    found = started("data=h5ad", *words, f"runs_dir={tmp_path / 'r'}")
    assert "Did you mean 'kind'?" in found.stderr
    assert found.stderr.splitlines()[-1] == "loaded "


def test_columns_that_look_like_donors_or_conditions_are_named_with_the_option(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        obs = file.create_group("obs")
        obs.attrs["column-order"] = ["cell_type", "donor_id", "stim", "sample_quality", "n_counts", "sequencing_batch"]
    config = DataConfig(kind="file", path=str(path), population_key="cell_type")
    found = suggestions(config)
    assert [line.split(" look")[0] for line in found] == [
        "'donor_id'",
        "'sequencing_batch'",
        "'stim'",
    ]
    assert "data.sample_key=COLUMN" in found[0]
    used = replace(config, sample_key="donor_id", batch_key="sequencing_batch")
    assert [line.split(" look")[0] for line in suggestions(used)] == ["'stim'"]
    assert suggestions(used, ["stim"]) == []
    assert suggestions(DataConfig()) == []


@pytest.mark.parametrize(
    "more", [["plan=true"], [], ["-m", "rank.top_k=4,5", "plan=true"]], ids=["plan", "run", "sweep"]
)
def test_they_are_named_once_before_the_work_and_never_beside_an_error(tmp_path: Path, more: list[str]) -> None:
    adata = small_adata()
    adata.obs = adata.obs[["cell_type"]].assign(
        donor=[f"d{i % 4}" for i in range(adata.n_obs)], condition=["xy"[i % 4 // 2] for i in range(adata.n_obs)]
    )
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    words = ["data=h5ad", f"data.path={path}", "data.population_key=cell_type", *more]
    words += ["model=pca", "methods=[t_test]", "resample.n_replicates=2", "rank.top_k=5", "data.min_cells=5"]
    words = [word for word in words if not (word == "rank.top_k=5" and "rank.top_k=4,5" in more)]
    status = start(tmp_path / "r", *words, errors="said").wait(240)
    text = (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert status == 0, text
    said = text.splitlines()
    notes = [line for line in said if line.startswith("Note: ")]
    assert notes[0].startswith("Note: 'donor' looks like samples or donors: data.sample_key=COLUMN")
    assert "data.condition_key" in notes[1]
    assert len(notes) == 2
    if not more:
        assert said[:2] == notes
    status = start(tmp_path / "r", *words, "methods=[t_tset]", errors="refused").wait(240)
    text = (tmp_path / "refused.txt").read_text(encoding="utf-8")
    assert (status, text.count("\n")) == (2, 1), text


def tables() -> dict[str, Any]:
    answer = [
        ("Naive CD8+ T of a long name", "marker", "wilcoxon", 0.81, 0.7, 0.9, 0.62, "…"),
        (
            "B",
            "marker",
            "none",
            float("nan"),
            float("nan"),
            float("nan"),
            float("nan"),
            "No method is confirmed: at most 3.",
        ),
    ]
    columns = ["population", "estimand", "method", "phi", "lower", "upper", "confirmed_lower", "reason"]
    genes = {"population": "Naive CD8+ T of a long name", "estimand": "marker", "rank": [1, 2], "gene": ["g1", "g2"]}
    return {
        "answer": pd.DataFrame(answer, columns=columns),
        "answer_genes": pd.DataFrame({**genes, "symbol": ["CD8B", "CD8A"], "log2_fold_change": [4.21, -0.5]}),
    }


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_answers_fit_the_window(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_answers(console, tables(), 50)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "Φ 0.81 [0.70, 0.90]\n" in text  # an interval is not broken
    flat = " ".join(text.split())
    assert "at least 31 of 50 hold in unseen cells; Φ 0.81 [0.70, 0.90]" in flat
    assert "CD8B +4.2, CD8A -0.5" in flat
    assert "B none No method is confirmed: at most 3." in flat


def test_of_many_populations_those_without_an_answer_are_named_together() -> None:
    many = tables()
    none = many["answer"].iloc[[1] * 20].assign(population=[f"P{i}" for i in range(20)])
    many["answer"] = pd.concat([many["answer"].iloc[:1], none])
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_answers(console, many, 50)
    flat = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "CD8B +4.2" in flat
    assert flat.endswith(f"20 of 21 populations none {', '.join(none['population'])}. The report says why of each.")
    assert "No method is confirmed" not in flat


def finished(root: Path, name: str) -> Path:
    folder = root / "results" / name
    folder.mkdir(parents=True)
    (folder / MARKER).write_text("{}")
    (folder / "report.html").write_text("<p>")
    return folder


def test_a_run_is_found_by_name_part_and_as_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = finished(tmp_path, "pbmc-1-abc"), finished(tmp_path, "pbmc-2-def")
    assert find_folder(None, tmp_path) == last
    assert find_folder("abc", tmp_path) == first
    with pytest.raises(ConfigError, match="several runs: pbmc-1-abc, pbmc-2-def"):
        find_folder("pbmc", tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'pbmc-2-def'"):
        find_folder("pbmc-2-dex", tmp_path)
    assert report(["abc", "--runs-dir", str(tmp_path), "--no-browser"]) == 0
    assert capsys.readouterr().out == f"{first / 'report.html'}\n"
    assert report(["--runs-dir", str(tmp_path / "empty")]) == 2
