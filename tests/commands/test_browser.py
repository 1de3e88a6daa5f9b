"""What a person sees in the MLflow UI of a real sweep, in a real browser."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from tests.helpers import prepared_processes, sweep_helpers
from tests.helpers.tracking_helpers import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SMALL_SWEEP = (
    "-m", *(word for word in sweep_helpers.TINY if word.startswith("data")), "association.n_permutations=9",
    "rank.top_k=5",
    "train=quick", "fit.n_mc_samples=2", "resample.n_replicates=4", "methods=[contrast,t_test,spread,random]",
    "model.n_latent=2,4", "model.latent_distribution=normal,ln", "sweep.name=small", "sweep.reports=all",
)  # fmt: skip
# MLflow's own: a list of users that a server without accounts does not have, and its layout's observers.
NOT_OURS = ("users/current", "ResizeObserver loop")
PATIENCE = 60_000  # milliseconds


@dataclass
class Seen:
    """A page with what it asked for and complained of."""

    page: Page
    base: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, place: str) -> None:
        self.page.goto(f"{self.base}/#/{place}")

    def run(self, run_id: str, tab: str = "") -> None:
        # Another fragment of the same page would not load what it names.
        self.page.goto("about:blank")
        self.open(f"experiments/1/runs/{run_id}{tab}?workflowType=machine_learning")

    def report(self, run_id: str) -> Frame:
        """Open the report in the preview of artifacts."""
        self.run(run_id, "/artifacts/report.html")
        preview = self.page.wait_for_selector("iframe.mlflow-html-iframe", timeout=PATIENCE)
        assert preview is not None
        assert preview.get_attribute("sandbox") == "allow-scripts"
        frame = preview.content_frame()
        assert frame is not None
        frame.wait_for_selector("footer", timeout=PATIENCE)
        return frame


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium (Debian's package chromium)")
    runs = tmp_path_factory.mktemp("browser") / "runs"
    prepared_processes.run(runs, *SMALL_SWEEP, whole=True)
    return runs


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "scballast.commands.ui", "--runs-dir", str(runs), "--port", str(free_port())]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=runs, env=environment)
    assert shown.stdout is not None
    try:
        yield next(line.split()[2] for line in iter(shown.stdout.readline, "") if line.startswith("MLflow UI: "))
    finally:
        shown.send_signal(signal.SIGINT)
        shown.communicate(timeout=60)


@pytest.fixture(scope="module")
def seen(address: str) -> Iterator[Seen]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(PATIENCE)
        found = Seen(page, address.split("/#/")[0])
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and found.complaints.append(_complaint(said)))
        yield found
        browser.close()


def _complaint(said: Any) -> str:
    return f"{said.text} {said.location.get('url', '')}"


@pytest.fixture(scope="module")
def trials(runs: Path) -> dict[str, str]:
    """Ids of the trials' runs by number of the trial."""
    return {tags["scballast.trial"]: run_id for run_id, tags in sweep_helpers.children(runs).items()}


def rows(runs: Path, trial: str, name: str) -> list[dict[str, str]]:
    folder = next((runs / "results").glob(f"*trial{trial}-*"))
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sweep_is_a_tree_of_runs(seen: Seen, address: str) -> None:
    page = seen.page
    page.goto(address)
    page.wait_for_selector(".ag-row >> text=small")
    # The results of the runs are shown from the start.
    page.locator(".ag-header-cell", has_text="confirmed/contrast").wait_for()
    assert page.get_by_text("1 matching run").count() == 1 or page.get_by_text("5 matching runs").count() == 1
    names = page.locator(".ag-row a", has_text=re.compile(r"\btrial\d"))
    assert names.count() == 0
    page.locator(".ag-row button").first.click()
    names.first.wait_for()
    shown = {re.search(r"\btrial(\d)-", name).group(1) for name in names.all_inner_texts()}  # type: ignore[union-attr]
    assert shown == {"0", "1", "2", "3"}
    # The chosen trial's model is in the registry.
    assert page.locator(".ag-row", has_text="scballast-simulated").count() == 1


def test_the_sweeps_own_row_has_the_objectives_of_its_chosen_trial(
    seen: Seen, address: str, runs: Path, trials: dict[str, str]
) -> None:
    from mlflow.tracking import MlflowClient

    client, parent = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}"), sweep_helpers.parent(runs)
    own = client.get_run(parent["run_id"]).data.metrics
    chosen = client.get_run(trials[parent["scballast.chosen"]]).data.metrics
    assert own == {name: chosen[name] for name in ("confirmed/contrast",)}
    seen.page.goto("about:blank")
    seen.page.goto(address)
    seen.page.locator(".ag-row", has_text=str(own["confirmed/contrast"])[:6]).first.wait_for()


def test_a_run_opens_on_its_answer(seen: Seen, runs: Path, trials: dict[str, str]) -> None:
    seen.run(trials["0"])
    seen.page.wait_for_selector("text=Which genes can be trusted?")
    shown = seen.page.locator("table", has_text="method to trust")
    lines = [line.split("\t") for line in shown.first.inner_text().splitlines()]
    answers = {(row["population"], row["estimand"]): row["method"] for row in rows(runs, "0", "answer")}
    assert {(cells[0], cells[1]): cells[2] for cells in lines if cells[0] != "population"} == answers


def test_metrics_are_grouped_by_prefix(seen: Seen, runs: Path, trials: dict[str, str]) -> None:
    from mlflow.tracking import MlflowClient

    logged = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}").get_run(trials["0"]).data.metrics
    groups = Counter(name.rpartition("/")[0] for name in logged)
    assert {"stability", "confirmed", "fit", "seconds"} <= set(groups)
    seen.run(trials["0"], "/model-metrics")
    page = seen.page.locator("main, #root").first
    # An open group shows its metrics by what follows the prefix.
    page.get_by_text("t_test", exact=True).first.wait_for()
    shown = dict(re.findall(r"^(\S+)\n\((\d+)\)$", page.inner_text(), flags=re.M))
    assert {name: int(n) for name, n in shown.items()} == groups


def test_the_report_shows_its_answer_in_the_preview(seen: Seen, runs: Path, trials: dict[str, str]) -> None:
    frame = seen.report(trials["0"])
    answers = rows(runs, "0", "answer")
    shown = [text.split("\t")[0].strip() for text in frame.locator("table.answer tbody th").all_inner_texts()]
    assert sorted(shown) == sorted(row["population"] for row in answers)
    named = frame.locator("table.answer td.method b").all_inner_texts()
    assert sorted(named) == sorted(row["method"] for row in answers if row["method"] != "none")
    pictures = frame.locator("figure img")
    assert pictures.count() >= 8
    assert all(pictures.evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 300)"))
    wide = frame.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_the_sweep_has_its_report(seen: Seen, runs: Path) -> None:
    frame = seen.report(sweep_helpers.parent(runs)["run_id"])
    headings = frame.locator("h2").all_inner_texts()
    assert {"The chosen configuration", "Pareto front", "Number of dimensions", "All trials"} <= set(headings)
    assert frame.locator("table.grid", has_text="One row per trial").locator("tbody tr").count() == 4
    chosen = sweep_helpers.parent(runs)["scballast.chosen"]
    assert f"trial {chosen}" in frame.locator("#chosen").inner_text()


def test_a_figure_and_a_table_are_previewed(seen: Seen, runs: Path, trials: dict[str, str]) -> None:
    seen.run(trials["1"], "/artifacts/figures/stability_heatmap.png")
    picture = seen.page.wait_for_selector("img[alt='figures/stability_heatmap.png'], img.rc-image-img")
    assert picture is not None
    seen.page.wait_for_function("[...document.querySelectorAll('img')].some(one => one.naturalWidth === 2020)")
    seen.run(trials["1"], "/artifacts/tables/answer.csv")
    for row in rows(runs, "1", "answer")[:2]:
        seen.page.get_by_text(row["population"], exact=True).first.wait_for()


def test_stability_against_held_out_fit_is_drawn(seen: Seen, runs: Path, trials: dict[str, str]) -> None:
    wanted = quote("[" + ",".join(f'"{run_id}"' for run_id in trials.values()) + "]")
    seen.open(f"compare-runs?runs={wanted}&experiments=%5B%221%22%5D")
    seen.page.get_by_text("Scatter Plot").click()
    for axis, metric in (("x", "fit/heldout_nll"), ("y", "stability/contrast")):
        seen.page.locator(f"#{axis}-axis-selector").click()
        seen.page.get_by_role("option", name=metric, exact=True).click()
    plot = seen.page.locator(".js-plotly-plot", has_text="fit/heldout_nll").first
    plot.locator("text=stability/contrast").first.wait_for()
    drawn = plot.evaluate("plot => plot.data.flatMap(part => part.x.map((x, i) => [x, part.y[i]]))")
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in (runs / "results").glob("*/metrics.json")]
    expected = sorted([metrics["fit/heldout_nll"], metrics["stability/contrast"]] for metrics in stored)
    assert len(expected) == 4
    assert sorted(drawn) == [pytest.approx(point) for point in expected]


def test_nothing_left_the_machine_and_nothing_complained(seen: Seen) -> None:
    hosts = {urlsplit(url).hostname for url in seen.requests if not url.startswith(("data:", "blob:", "about:"))}
    assert hosts == {"127.0.0.1"}
    assert [said for said in seen.complaints if not any(known in said for known in NOT_OURS)] == []
