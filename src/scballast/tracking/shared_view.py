"""The columns in which the MLflow UI shows runs at first, where the address asks for them.

MLflow keeps a view that somebody shares as a tag of the experiment, and shows it at
``#/experiments/ID/runs?viewStateShareKey=KEY`` (checked with MLflow 3.17). Without it the table of runs has their
source, data set and models, and no result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from scballast.config import keys

SHARE_KEY = "scballast"
_TAG = f"mlflow.sharedViewState.{SHARE_KEY}"
_RUNS_LOOKED_AT = 50
_MOST_METHODS = 5


def share_view(client: Any, experiment_id: str) -> bool:
    """Keep the view with the results that the experiment's runs have, and return whether they have any.

    Parameters
    ----------
    client
        An ``MlflowClient``.
    experiment_id
        Of the experiment.
    """
    runs = client.search_runs([experiment_id], max_results=_RUNS_LOOKED_AT)
    metrics = result_metrics(name for run in runs for name in run.data.metrics)
    if not metrics:
        return False
    # The run's name has the data set; a sweep registers the model of its chosen trial, another run none.
    registers = any(run.data.tags.get(keys.ROLE) == "sweep" for run in runs)
    columns = [*(["attributes.`Models`"] if registers else []), *(f"metrics.`{name}`" for name in metrics)]
    wanted = json.dumps({"selectedColumns": columns}, ensure_ascii=False)
    if client.get_experiment(experiment_id).tags.get(_TAG) != wanted:
        client.set_experiment_tag(experiment_id, _TAG, wanted)
    return True


def result_metrics(names: Iterable[str]) -> list[str]:
    """Return the metrics that one compares runs by, as they are shown from left to right.

    Held-out fit, the confirmed share of up to five methods (first those that sweeps are tuned by unless they say
    otherwise, then in the order of the registry), stability (of the contrast, else of the first method), and the time.
    """
    from scballast.config.schema import DEFAULT_OBJECTIVES
    from scballast.methods.registry import CONTROLS, method_order

    known = set(names)
    methods: dict[str, list[str]] = {"confirmed": [], "stability": []}
    for name in known:
        group, _, method = name.partition("/")
        if group in methods and "/" not in method and method not in CONTROLS:
            methods[group].append(method)
    for names_of_group in methods.values():
        names_of_group.sort(key=method_order)
    tuned = [objective.metric for objective in DEFAULT_OBJECTIVES]
    shown = sorted(methods["confirmed"], key=lambda name: f"confirmed/{name}" not in tuned)[:_MOST_METHODS]
    stable = [name for name in methods["stability"] if name == "contrast"] or methods["stability"][:1]
    wanted = (
        "fit/heldout_nll",
        *(f"confirmed/{name}" for name in shown),
        *(f"stability/{name}" for name in stable),
        "seconds/total",
    )
    return [name for name in wanted if name in known]
