"""A whole experiment by stage at growing numbers of cells, and killed in each stage; see ``bench_scale``.

Every run of the command leaves its events in the folder, and the command's own cache holds what is finished: a
benchmark that was stopped goes on where it was, with the same words.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scballast.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
GIGABYTE = 1e9
STAGES = {
    "load": "load",
    "baselines": "baselines",
    "first_answer": "answer from cells alone",
    "training": "train",
    "rankings": "methods of models",
    "fit": "held-out fit",
    "latent": "latent tables",
    "programs": "programs",
    "confirmation": "confirmation",
    "statistics": "statistics",
    "tables to disk": "tables to disk",
    "report": "report",
    "tracking": "tracking",
}
"""Stages that follow each other, by their names in the events; a name with a colon is a part of one."""
_FROM_CACHE = re.compile(r": (\d+) of \d+ models are taken from the cache")
REPEATED = ("method: ", "training: ")
"""Parts that are kept one by one: what a killed run had finished of them is not done again."""


@dataclass
class Cost:
    """Of a stage: seconds, seconds of the processor, peak of resident memory in bytes, and times that it ended."""

    wall: float = 0.0
    processor: float = 0.0
    peak: float = 0.0
    ended: int = 0


def costs(path: Path) -> dict[str, Cost]:
    """Read the stages of one run of the command; of a stage that was killed the peak alone is known."""
    found: dict[str, Cost] = defaultdict(Cost)
    open_stages: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        for begun in open_stages:
            found[begun["stage"]].peak = max(found[begun["stage"]].peak, event["peak"])
        if event["begins"]:
            open_stages.append(event)
            continue
        begun = open_stages.pop()
        cost = found[event["stage"]]
        cost.wall += event["wall"] - begun["wall"]
        cost.processor += event["processor"] - begun["processor"]
        cost.ended += not event.get("failed", False)
    return dict(found)


def of_all_runs(paths: Iterable[Path]) -> dict[str, Cost]:
    """Put together the runs of one experiment that was stopped and went on: parts that are kept add up."""
    whole: dict[str, Cost] = {}
    for path in paths:
        for name, cost in costs(path).items():
            before = whole.get(name, Cost())
            kept = name.startswith(REPEATED)
            latest = cost if cost.ended else before
            whole[name] = Cost(
                before.wall + cost.wall if kept else latest.wall,
                before.processor + cost.processor if kept else latest.processor,
                max(before.peak, cost.peak),
                before.ended + cost.ended if kept else latest.ended,
            )
    return whole


def has_ended(path: Path) -> bool:
    """Return whether the command of these events came to its end."""
    return costs(path).get("command", Cost()).ended > 0


def run(events: Path, words: Sequence[str], kill: tuple[str, float] | None = None) -> int:
    """Run the command with a gauge on its stages; its output goes beside the events."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    command = [sys.executable, "-m", "tests.benchmarks.staged_command", str(events)]
    command += [] if kill is None else ["--kill", kill[0], f"{kill[1]:.2f}"]
    with events.with_suffix(".log").open("w", encoding="utf-8") as log:
        return subprocess.run([*command, *words], env=environment, stdout=log, stderr=log, check=False).returncode


def words_of(path: Path, runs: Path, more: Sequence[str]) -> list[str]:
    """Return the command's words."""
    return [
        *("data=h5ad", f"data.path={path}", "data.population_key=cell_type", f"runs_dir={runs}"),
        *("resample.n_replicates=4", "baselines=fast", *more),
    ]


def grow(
    folder: Path,
    sizes: Sequence[int],
    simulated: Callable[[Path, int], None],
    more: Sequence[str],
    killed: Sequence[tuple[str, float]] = (),
) -> bool:
    """Run the experiment at each number of cells, or go on with it, and print its table; return whether all ended.

    That of the last size is ended by SIGKILL in the stages of ``killed``, so many seconds after they begin; it goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = True
    for n_cells in sizes:
        runs = sorted(folder.glob(f"events-{n_cells}-*.jsonl"))
        if runs and has_ended(runs[-1]):
            continue
        path = _file(folder, n_cells, simulated)
        ends = [*(killed[len(runs) :] if n_cells == sizes[-1] else ()), None]
        for i, end in enumerate(ends, start=len(runs)):
            events = folder / f"events-{n_cells}-{i:03d}.jsonl"
            status = run(events, words_of(path, folder / f"runs-{n_cells}", more), end)
        if status:
            print(f"{n_cells:,} cells: ended with {status}; see {events.with_suffix('.log')}")
            whole = False
    by_size = {n: of_all_runs(sorted(folder.glob(f"events-{n}-*.jsonl"))) for n in sizes}
    print(table({n: found for n, found in by_size.items() if found}))
    return whole


def table(by_size: dict[int, dict[str, Cost]]) -> str:
    """Return a Markdown table: processor (wall) seconds and peak gigabytes by stage, and the exponent of growth.

    The exponent is that of processor seconds between the two largest numbers of cells that have the stage.
    """
    sizes = sorted(by_size)
    names = dict.fromkeys(name for n in sizes for name in by_size[n] if name in STAGES or ":" in name)
    order = {stage: i for i, stage in enumerate(STAGES)}
    lines = [
        f"| stage | {' | '.join(f'{n:,} cells, s | GB' for n in sizes)} | exponent |",
        "|" + "---|" * (2 * len(sizes) + 2),
    ]
    for name in sorted(names, key=lambda name: (":" in name, order.get(name, 0))):
        cells, known = [], []
        for n in sizes:
            cost = by_size[n].get(name)
            if cost is None or not cost.ended:
                cells.append(f"not ended | {cost.peak / GIGABYTE:.2f}" if cost else " | ")
                continue
            cells.append(f"{cost.processor:.1f} ({cost.wall:.0f}) | {cost.peak / GIGABYTE:.2f}")
            known.append((n, cost.processor))
        lines.append(f"| {STAGES.get(name, name)} | {' | '.join(cells)} | {exponent(known)} |")
    return "\n".join(lines)


def exponent(known: Sequence[tuple[int, float]]) -> str:
    """Return b of seconds ~ cells^b between the last two sizes; nothing where times are too short to tell."""
    if len(known) < 2 or min(seconds for _, seconds in known[-2:]) < 0.05:
        return ""
    (first, before), (second, after) = known[-2:]
    return f"{math.log(after / before) / math.log(second / first):.2f}"


def kills(
    folder: Path,
    n_cells: int,
    simulated: Callable[[Path, int], None],
    more: Sequence[str],
    stages: Sequence[str] | None = None,
) -> bool:
    """Kill the command in the middle of each stage and run it again; print what was lost, return whether all is well.

    The middle is that of the same stage in a run that was left alone. Each stage is killed in a folder of its own, and
    run again until it ends; wanted: no baseline is scored twice. What comes after training begins with the scores and
    models of the run that was left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _file(folder, n_cells, simulated)
    alone = folder / f"kill-{n_cells}-alone.jsonl"
    if not (alone.exists() and has_ended(alone)):
        alone.unlink(missing_ok=True)
        run(alone, words_of(path, folder / f"kill-runs-{n_cells}-alone", more))
    undisturbed = costs(alone)
    print(
        "| killed in | after s | parts kept | s again, of alone | baselines scored twice | status |\n"
        + "|---" * 6
        + "|"
    )
    well = True
    for stage in STAGES:
        if stage not in undisturbed or (stages is not None and stage not in stages):
            continue
        name = stage.replace(" ", "-")
        first, second = (folder / f"kill-{n_cells}-{name}-{i}.jsonl" for i in (1, 2))
        words = words_of(path, folder / f"kill-runs-{n_cells}-{name}", more)
        if not first.exists():
            if list(STAGES).index(stage) > list(STAGES).index("training"):
                kept_cache = folder / f"kill-runs-{n_cells}-alone" / "cache"
                shutil.copytree(kept_cache, folder / f"kill-runs-{n_cells}-{name}" / "cache", copy_function=os.link)
            run(first, words, (stage, undisturbed[stage].wall / 2 / max(1, undisturbed[stage].ended)))
        if not (second.exists() and has_ended(second)):
            second.unlink(missing_ok=True)
            run(second, words)
        before, after = costs(first), costs(second)
        kept = {f"method: {method.name}" for method in METHODS.values() if not method.roles}
        done = {part: cost.ended for part, cost in before.items() if part in kept}
        twice = sum(max(0, n + after.get(part, Cost()).ended - undisturbed[part].ended) for part, n in done.items())
        models = sum(map(int, _FROM_CACHE.findall(second.with_suffix(".log").read_text(encoding="utf-8"))))
        again = after["command"].processor if "command" in after else math.nan
        ended = has_ended(second)
        well &= ended and twice == 0 and not has_ended(first)
        after_s = before.get("command", Cost()).wall or _last_wall(first)
        print(
            f"| {STAGES[stage]} | {after_s:.0f} | {sum(done.values())} rankings, {models} models | {again:.0f} of "
            f"{undisturbed['command'].processor:.0f} | {twice} | {'ended' if ended else 'failed'} |",
            flush=True,
        )
    return well


def _file(folder: Path, n_cells: int, simulated: Callable[[Path, int], None]) -> Path:
    path = folder / f"atlas-{n_cells}.h5ad"
    if not path.exists():
        part = path.with_suffix(".part.h5ad")
        simulated(part, n_cells)
        part.rename(path)
    return path


def _last_wall(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["wall"])
