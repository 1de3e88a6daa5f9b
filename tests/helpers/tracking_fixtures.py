"""Fixtures shared by the tests of tracking, UI and export."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.tracking_helpers import settings_for

from scballast.tracking import Tracking
from scballast.tracking.database import create_or_migrate


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty database; copying it saves each test the seconds that making one takes."""
    runs = tmp_path_factory.mktemp("template")
    settings = settings_for(runs)
    create_or_migrate(settings)
    assert settings.database is not None
    return settings.database


@pytest.fixture
def tracking(tmp_path: Path, template_database: Path) -> Tracking:
    from tests.helpers.tracking_helpers import copy_template

    made = Tracking(settings_for(copy_template(template_database, tmp_path / "runs")))
    made.prepare()
    return made
