"""The chosen configuration once more on fresh replicates: it was chosen by looking, so its own values flatter it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scballast.config import keys
from scballast.sweep.child import ProcessDiedError
from scballast.sweep.front import choose
from scballast.sweep.messages import Failed, SweepPlace, TrialDone, TrialRequest
from scballast.sweep.study import SweepStudy
from scballast.sweep.worker import Worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FreshValues:
    """What the chosen configuration reaches where nothing was chosen.

    Attributes
    ----------
    trial
        Number of the chosen trial.
    seed
        The seed of the fresh replicates.
    run_id
        Their run in MLflow.
    values
        Of the objectives.
    """

    trial: int
    seed: int
    run_id: str
    values: Mapping[str, float]


def confirm_choice(study: SweepStudy, worker: Worker) -> None:
    """Run the chosen configuration with another seed as a run beside the trials, and note what it reaches."""
    choice = choose(study.scores())
    known = fresh_values(study)
    if choice is None or (known is not None and known.trial == choice.number):
        return
    config = worker.composer.config(study.trial(choice.number).params)
    seed = config.seed + 1
    logger.info("Confirming trial %d on fresh replicates (seed=%d).", choice.number, seed)
    tags = ((keys.CONFIRMS, str(choice.number)),)
    place = SweepPlace(sweep=study.name, trial=None, parent_run_id=worker.parent_run_id, tags=tags)
    sweep = replace(config.sweep, storage=None)
    request = TrialRequest(replace(config, seed=seed, sweep=sweep), place)
    try:
        answer = worker.process.call(request)
    except ProcessDiedError as error:
        answer = Failed(str(error), died=True)
    if not isinstance(answer, TrialDone):
        reason = answer.reason if isinstance(answer, Failed) else "it was interrupted"
        logger.warning("Trial %d is not confirmed: %s. The same command tries again.", choice.number, reason)
        return
    wanted = [objective.metric for objective in study.config.objectives]
    values = {metric: answer.metrics[metric] for metric in wanted if metric in answer.metrics}
    confirmed = {"trial": choice.number, "seed": seed, "run_id": answer.run_id, "values": values}
    study.set_attribute(keys.CONFIRMED, json.dumps(confirmed))


def fresh_values(study: SweepStudy) -> FreshValues | None:
    """Return what the last confirmation found, or None where there was none."""
    stored = study.attribute(keys.CONFIRMED)
    return None if stored is None else FreshValues(**json.loads(stored))


def confirmation_sentence(study: SweepStudy) -> str:
    """Return the chosen trial's values beside those on fresh replicates; empty without a confirmation."""
    fresh = fresh_values(study)
    scores = study.scores()
    if fresh is None or fresh.trial not in scores.values:
        return ""
    pairs = zip(scores.objectives, scores.values[fresh.trial], strict=True)
    parts = [
        f"{objective.metric} {fresh.values[objective.metric]:.4g} where it was chosen by {value:.4g}"
        for objective, value in pairs
        if objective.metric in fresh.values
    ]
    return f"Trial {fresh.trial} on fresh replicates (seed={fresh.seed}): {', '.join(parts)}."
