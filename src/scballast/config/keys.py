"""Names of what is noted of runs, trials, sweeps and experiments: tags in MLflow, attributes in Optuna.

Read by other tools and by sweeps of earlier releases: a name that is here keeps its meaning.
"""

from __future__ import annotations

# What a run computed, and on what.
CONFIG_HASH = "scballast.config_hash"
DATASET = "scballast.dataset"
DATASET_DIGEST = "scballast.dataset_digest"
DEVICE = "scballast.device"
RESAMPLE_KIND = "scballast.resample_kind"
VERSIONS = "scballast.versions"
WARNINGS = "scballast.warnings"

# A check of somebody's lists: their file, and whose rankings they were held against.
LISTS = "scballast.lists"
RANKINGS = "scballast.rankings"

# A run's life: who works on it, how it ended, where its result lies.
KEY = "scballast.key"
PROCESS = "scballast.process"
HEARTBEAT = "scballast.heartbeat"
HOST = "scballast.host"
PID = "scballast.pid"
FAILURE = "scballast.failure"
RESULT = "scballast.result"
FOLDER = "scballast.folder"

# A trial in its sweep.
SWEEP = "scballast.sweep"
TRIAL = "scballast.trial"
DUPLICATE_OF = "scballast.duplicate_of"
HYDRA_DIR = "scballast.hydra_dir"
PARETO = "scballast.pareto"
CHOSEN = "scballast.chosen"

# A sweep's own run.
ROLE = "scballast.role"
COMMAND = "scballast.command"
DONE = "scballast.done"
FAILED = "scballast.failed"
TOTAL = "scballast.total"
PROGRESS = "scballast.progress"
BEST = "scballast.best"
PARETO_FRONT = "scballast.pareto_front"
CHOSEN_RUN = "scballast.chosen_run"
RULE = "scballast.rule"
MODEL = "scballast.model"

# A study's and a trial's attributes in Optuna; of those above PROCESS, HEARTBEAT, CONFIG_HASH, HYDRA_DIR and
# DUPLICATE_OF too.
IDENTITY = "scballast.identity"
PARENT_RUN = "scballast.parent_run_id"
WRAPPED = "scballast.wrapped"
POINT = "scballast.point"
RETRY_OF = "scballast.retry_of"
ATTEMPT = "scballast.attempt"
REASON = "scballast.reason"
TRACEBACK = "scballast.traceback"
RUN_ID = "scballast.run_id"
RESULTS = "scballast.results"
HELDOUT_NLL = "scballast.heldout_nll"
PAIRS = "scballast.pairs"
RACED = "scballast.raced"

# A trial that racing stopped: why, after how many pairs of replicates, and the trials that beat it, if any did.
STOPPED = "scballast.stopped"
RUNG = "scballast.rung"
STOPPED_BY = "scballast.stopped_by"

# The chosen configuration on fresh replicates.
CONFIRMS = "scballast.confirms"
CONFIRMED = "scballast.confirmed"

# An experiment, and a version of a registered model.
RUNS_DIR = "scballast.runs_dir"
MODEL_DIGEST = "scballast.model_digest"
