"""Experiments in MLflow; the only package that imports it.

Everything goes through an MLflow client object of its own: no active run, no global address and no
autologging, which scvi-tools' training would write into.
"""

from __future__ import annotations

from scballast.tracking.client import Tracking
from scballast.tracking.database import load_mlflow
from scballast.tracking.leftovers import SyncResult
from scballast.tracking.location import TrackingSettings
from scballast.tracking.store import StoredRun

__all__ = ["StoredRun", "SyncResult", "Tracking", "TrackingSettings", "load_mlflow"]
