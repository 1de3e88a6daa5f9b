"""A sweep's result: its tables from the trials' stored ones, its report, its end in MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from scballast.config import keys
from scballast.config.addresses import without_passwords
from scballast.config.schema import to_nested
from scballast.errors import ScballastError
from scballast.results import Results, read_config, read_json, result_folder, setting, write_results
from scballast.sweep.confirm import confirmation_sentence
from scballast.sweep.front import Scores, choose, notes_on, pareto_front
from scballast.sweep.messages import Described
from scballast.sweep.optuna_compat import FrozenTrial
from scballast.sweep.pages import draw_front
from scballast.sweep.parent import keep_parent, parent_params
from scballast.sweep.study import SweepStudy
from scballast.tracking import Tracking
from scballast.tracking.faults import UnreachableError
from scballast.verdict.caveats import OF_THE_DATA

logger = logging.getLogger(__name__)

# Shown of every trial, searched or not: the report draws by them.
_HEADLINE = ("model.name", "model.n_latent", "model.gene_likelihood", "model.latent_distribution")
_SHOWN_METRICS = re.compile(r"(fit|confirmed|stability|axis|programs|seconds)/[^/]+|truth/[^/]+/average_precision")
_STATES = {"COMPLETE": "COMPLETE", "FAIL": "FAILED", "PRUNED": "STOPPED"}


def wrap_up(study: SweepStudy, tracking: Tracking, parent: str, dataset: Described) -> None:
    """Write a sweep's folder and report, publish them into its run and end the run.

    Of several commands that share a sweep the first to arrive does it. A sweep that others still work on is
    left to them. The pages of the front come last: an interrupt ends the drawing alone.
    """
    if study.progress().running:
        return
    _wrap(study, tracking, parent, dataset)
    try:
        draw_front(study, tracking)
    except KeyboardInterrupt:
        logger.warning("Stopped. Reports of trials are left out; the same command draws them.")


def _wrap(study: SweepStudy, tracking: Tracking, parent: str, dataset: Described) -> None:
    with study.lock():
        progress = study.progress()
        signature = _signature(study)
        if progress.running or study.attribute(keys.WRAPPED) == signature:
            return
    keep_parent(study, tracking, parent)
    with study.lock():
        if study.attribute(keys.WRAPPED) == signature:
            return
        if progress.done == 0:
            tracking.fail_run(parent, f"no trial finished: {progress}", _failures(study.trials()))
        else:
            folder = _write(study, tracking, dataset)
            _mark(study, tracking)
            tracking.publish(parent, folder)
            _register(study, tracking, parent, dataset.name)
            if not progress.is_over:
                tracking.fail_run(parent, f"stopped: {progress}", _failures(study.trials()))
        study.set_attribute(keys.WRAPPED, signature)


def trials_table(study: SweepStudy, root: Path) -> pd.DataFrame:
    """Return one row per trial: state, parameters, metrics, Pareto front, choice.

    Parameters
    ----------
    root
        The runs folder.
    """
    trials, scores = study.trials(), study.scores()
    front, choice = set(pareto_front(scores)), choose(scores)
    rows = []
    for trial in trials:
        folder = _folder(trial, root)
        values = dict(zip((o.metric for o in study.config.objectives), trial.values or (), strict=False))
        failed_fit = scores.failed_fits.get(trial.number, "")
        # On the scale of a fit out of all proportion no figure would show the others.
        values = {o.metric: math.nan if failed_fit else values.get(o.metric, math.nan) for o in scores.objectives}
        metrics = read_json(folder / "metrics.json") if folder else {}
        shown = {name: value for name, value in metrics.items() if _SHOWN_METRICS.fullmatch(name)}
        poor_fit = scores.poor_fits.get(trial.number, "")
        if poor_fit:
            shown |= {name: math.nan for name in shown if name.startswith("fit/")}
        rows.append(
            {
                "trial": trial.number,
                "run_id": trial.user_attrs.get(keys.RUN_ID, ""),
                "state": _STATES.get(trial.state.name, trial.state.name),
                **_parameters(study, trial, folder),
                **shown,
                **{name: value if math.isfinite(value) else math.nan for name, value in values.items()},
                "pareto": trial.number in front,
                "chosen": choice is not None and trial.number == choice.number,
                "reason": choice.reason if choice is not None and trial.number == choice.number else "",
                "failure": trial.user_attrs.get(keys.REASON, "")
                or trial.user_attrs.get(keys.STOPPED, "")
                or failed_fit
                or poor_fit,
                "replicates": _n_replicates(study, trial),
                "duplicate_of": trial.user_attrs.get(keys.DUPLICATE_OF, ""),
                "config_hash": trial.user_attrs.get(keys.CONFIG_HASH, ""),
                "hydra_dir": trial.user_attrs.get(keys.HYDRA_DIR, ""),
            }
        )
    return pd.DataFrame(rows)


def racing_table(study: SweepStudy) -> pd.DataFrame:
    """Return one row per trial that racing stopped: how many replicates it had of how many, and what beat it."""
    rows = [
        {
            "trial": trial.number,
            "replicates": _n_replicates(study, trial),
            "of": study.config.resample.n_replicates,
            "stopped_by": trial.user_attrs.get(keys.STOPPED_BY, ""),
            "reason": trial.user_attrs.get(keys.STOPPED, ""),
        }
        for trial in study.trials()
        if trial.state.name == "PRUNED"
    ]
    return pd.DataFrame(rows, columns=["trial", "replicates", "of", "stopped_by", "reason"])


def _n_replicates(study: SweepStudy, trial: FrozenTrial) -> int:
    if trial.state.name == "PRUNED":
        return int(trial.user_attrs.get(keys.RUNG, 0))
    return study.config.resample.n_replicates if trial.state.name == "COMPLETE" else 0


def importance_table(trials: Sequence[FrozenTrial], scores: Scores) -> pd.DataFrame:
    """Return how much each parameter decides each objective (PED-ANOVA; shares that sum to 1).

    References
    ----------
    Watanabe, Bansal and Hutter (2023), PED-ANOVA: efficiently quantifying hyperparameter importance.
    """
    import optuna

    rows = []
    known = [trial for trial in trials if trial.number in scores.values and trial.params]
    constant = {key for trial in known for key, values in trial.distributions.items() if values.single()}
    for index, objective in enumerate(scores.objectives):
        values = {trial.number: scores.values[trial.number][index] for trial in known}
        if len(set(values.values())) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            direction: Any = objective.direction
            alone = optuna.create_study(direction=direction)
            alone.add_trials(
                optuna.create_trial(params=t.params, distributions=t.distributions, value=values[t.number])
                for t in known
            )
            try:
                shares = optuna.importance.get_param_importances(alone)
            except (ValueError, RuntimeError) as error:
                logger.info("Parameter importance for %s is left out: %s", objective.metric, error)
                continue
        rows += [
            {"objective": objective.metric, "parameter": key, "importance": share}
            for key, share in shares.items()
            if math.isfinite(share) and key not in constant
        ]
    return pd.DataFrame(rows, columns=["objective", "parameter", "importance"])


def _write(study: SweepStudy, tracking: Tracking, dataset: Described) -> Path:
    from scballast.report.sweep_report import render_sweep_report

    root, name = tracking.settings.root, study.name
    trials = trials_table(study, root)
    scores = study.scores()
    tables = {"importance": importance_table(study.trials(), scores)}
    tables |= _trial_tables(study, tracking, root)
    tables["racing"] = racing_table(study)
    # The report of no rows says that there are none; a file of no columns could not be read.
    tables = {key: table for key, table in tables.items() if len(table)}
    sweep = replace(study.config.sweep, name=name, storage=study.address.shown)
    config = replace(study.config, sweep=sweep, objectives=scores.objectives or study.config.objectives)
    results = Results(
        tables=tables,
        metrics=chosen_objectives(scores),
        config=to_nested(without_passwords(config)),
        params=parent_params(study.config, study.space),
        tags=_tags(study, dataset, scores),
        warnings=tuple(filter(None, (confirmation_sentence(study), *_notes(study.trials(), scores)))),
    )
    folder = root / "sweeps" / name
    with result_folder(folder) as partial:
        write_results(results, partial)
        trials.to_csv(partial / "trials.csv", index=False, lineterminator="\n")
        render_sweep_report(partial)
    return folder


def chosen_objectives(scores: Scores) -> dict[str, float]:
    """Return the objectives of the chosen trial by their metrics' names; nothing without a choice."""
    choice = choose(scores)
    if choice is None:
        return {}
    names = (objective.metric for objective in scores.objectives)
    return dict(zip(names, scores.values[choice.number], strict=True))


def _trial_tables(study: SweepStudy, tracking: Tracking, root: Path) -> dict[str, pd.DataFrame]:
    """Return stability, answer and warnings of every finished trial; stability with the trial's parameters."""
    parts: dict[str, list[pd.DataFrame]] = {"sweep_stability": [], "sweep_answer": [], "sweep_warnings": []}
    for trial in study.trials():
        if trial.state.name != "COMPLETE":
            continue
        folder = _folder(trial, root)
        tables = _stored_tables(trial, folder, tracking)
        stability, answer, caveats = (tables.get(name) for name in ("stability", "answer", "caveats"))
        if stability is not None:
            rows = stability.loc[stability["k"] == study.config.rank.top_k]
            rows = rows[["method", "population", "phi", "lower", "upper", "floor"]]
            parts["sweep_stability"].append(rows.assign(trial=trial.number, **_parameters(study, trial, folder)))
        if answer is not None:
            parts["sweep_answer"].append(answer.assign(trial=trial.number))
        if caveats is not None:
            # What is odd about the data is the same in every trial.
            rows = caveats[caveats["warned"].astype(bool) & (caveats["title"] != OF_THE_DATA)]
            parts["sweep_warnings"].append(rows[["title", "text"]].assign(trial=trial.number))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items() if tables}


def _stored_tables(trial: FrozenTrial, folder: Path | None, tracking: Tracking) -> dict[str, pd.DataFrame]:
    if folder is not None:
        paths = {name: folder / "tables" / f"{name}.csv" for name in ("stability", "answer", "caveats")}
        return {
            name: pd.read_csv(path, keep_default_na=False, na_values=[""])
            for name, path in paths.items()
            if path.is_file()
        }
    # A trial of another machine, whose disk is not this one's.
    try:
        return tracking.load_tables(str(trial.user_attrs.get(keys.RUN_ID, "")))
    except ScballastError as error:
        logger.warning("The tables of trial %d are not at hand: %s", trial.number, error)
        return {}


def _parameters(study: SweepStudy, trial: FrozenTrial, folder: Path | None) -> dict[str, Any]:
    searched = [dimension.key for dimension in study.space]
    parameters: dict[str, Any] = {}
    if folder is not None:
        config = read_config(folder)
        leaves = {key: setting(config, key) for key in dict.fromkeys((*_HEADLINE, *searched)) if "." in key}
        parameters = {k: json.dumps(leaf) if isinstance(leaf, list | dict) else leaf for k, leaf in leaves.items()}
    # A group is a parameter by its option's name; what it sets is in the configuration.
    return parameters | {key: trial.params[key] for key in searched if key in trial.params and key not in parameters}


def _folder(trial: FrozenTrial, root: Path) -> Path | None:
    stored = trial.user_attrs.get(keys.RESULTS)
    if not stored or not (root / stored / "metrics.json").is_file():
        return None
    return root / str(stored)


def _tags(study: SweepStudy, dataset: Described, scores: Scores) -> dict[str, str]:
    choice = choose(scores)
    tags = {
        keys.SWEEP: study.name,
        keys.DATASET: dataset.name,
        keys.DATASET_DIGEST: dataset.digest,
        keys.PARETO_FRONT: ", ".join(map(str, pareto_front(scores))) or "none",
    }
    if choice is not None:
        run_id = study.trial(choice.number).user_attrs.get(keys.RUN_ID, "")
        tags |= {keys.CHOSEN: str(choice.number), keys.CHOSEN_RUN: run_id, keys.RULE: choice.reason}
    return tags


def _mark(study: SweepStudy, tracking: Tracking) -> None:
    """Tag the trials' runs: on the Pareto front or not, chosen or not."""
    scores = study.scores()
    front, choice = pareto_front(scores), choose(scores)
    for trial in study.trials():
        run_id = trial.user_attrs.get(keys.RUN_ID)
        if run_id and trial.number in scores.values:
            chosen = choice is not None and trial.number == choice.number
            tags = {keys.PARETO: str(trial.number in front).lower(), keys.CHOSEN: str(chosen).lower()}
            tracking.set_tags(run_id, tags)


def _register(study: SweepStudy, tracking: Tracking, parent: str, dataset: str) -> None:
    """Register the chosen trial's model, if it kept one, under the data set's name and the sweep's alias."""
    choice = choose(study.scores())
    if choice is None:
        return
    chosen = study.trial(choice.number)
    folder = _folder(chosen, tracking.settings.root)
    if folder is None or not (folder / "model").is_dir():
        return
    run_id = str(chosen.user_attrs[keys.RUN_ID])
    try:
        uri = tracking.register_model(run_id, folder / "model", f"scballast-{dataset}", f"chosen-{study.name}")
        tracking.set_tags(parent, {keys.MODEL: uri})
    except (ScballastError, UnreachableError) as error:
        logger.warning("The chosen model is not registered; it is in %s. %s", folder / "model", error)


def _notes(trials: Sequence[FrozenTrial], scores: Scores) -> Iterator[str]:
    yield from notes_on(scores)
    for trial in trials:
        if trial.state.name == "PRUNED":
            yield f"Trial {trial.number} was stopped {trial.user_attrs.get(keys.STOPPED, '')}."
    for trial in trials:
        if trial.state.name == "FAIL":
            yield f"Trial {trial.number} failed: {trial.user_attrs.get(keys.REASON, 'no reason is known')}"
    copies = [str(t.number) for t in trials if t.user_attrs.get(keys.DUPLICATE_OF)]
    if copies:
        yield f"Trials {', '.join(copies)} asked for configurations that were done, and reuse their results."


def _failures(trials: Iterable[FrozenTrial]) -> str:
    return "\n\n".join(
        f"Trial {trial.number}: {trial.user_attrs.get(keys.REASON, '')}\n{trial.user_attrs.get(keys.TRACEBACK, '')}"
        for trial in trials
        if trial.state.name == "FAIL"
    )


def _signature(study: SweepStudy) -> str:
    states = [(trial.number, trial.state.name, trial.values) for trial in study.trials()]
    states.append(study.attribute(keys.CONFIRMED))
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]
