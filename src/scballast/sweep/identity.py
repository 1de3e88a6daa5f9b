"""What must not change between the parts of a sweep that is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scballast.config import keys
from scballast.config.schema import Config, to_leaves
from scballast.errors import ConfigError
from scballast.sweep.objectives import objectives_word
from scballast.sweep.optuna_compat import Study

_BEFORE = {"data.duplicates": "keep"}
"""What versions did that did not have a key."""


@dataclass(frozen=True)
class Identity:
    """What must not change between the parts of a sweep.

    Attributes
    ----------
    kind
        ``grid`` or ``optuna``.
    dataset, digest
        Name and content digest of the data set.
    space
        Values by key, as text.
    objectives
        Metric and direction.
    base
        The leaves of the configuration that decide results and are not searched.
    """

    kind: str
    dataset: str
    digest: str
    space: Mapping[str, str]
    objectives: Sequence[Sequence[str]]
    base: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the identity as the study keeps it."""
        return json.dumps(asdict(self), sort_keys=True)

    def differences(self, stored: str) -> list[str]:
        """Return what has changed against a stored identity, a clause each."""
        old, new = json.loads(stored), json.loads(self.to_json())
        clauses, defaults = [], to_leaves(Config())
        if old["kind"] != new["kind"]:
            clauses.append(f"sweep.kind was {old['kind']}, is {new['kind']}")
        if old["digest"] != new["digest"]:
            clauses.append(
                f"the data set was {old['dataset']} ({old['digest'][:12]}), is {new['dataset']} ({new['digest'][:12]})"
            )
        for part, name in (("space", "the search space of "), ("base", "")):
            for key in sorted(old[part].keys() | new[part].keys()):
                before, now = old[part].get(key, "not there"), new[part].get(key, "not there")
                # A key that an earlier version did not have is as it was: what else it changes the data's digest tells.
                new_key = part == "base" and key not in old[part] and now in (defaults.get(key), _BEFORE.get(key))
                if before != now and not new_key:
                    clauses.append(f"{name}{key} was {before}, is {now}")
        if old["objectives"] != new["objectives"]:
            clauses.append(f"objectives were {_pairs(old['objectives'])}, are {_pairs(new['objectives'])}")
        return clauses


def check_identity(study: Study, name: str, identity: Identity) -> None:
    """Refuse to resume a study of something else.

    Raises
    ------
    ConfigError
        It was not made by this program, or with another search space, data set, objectives or settings.
    """
    stored = study.user_attrs.get(keys.IDENTITY)
    if stored is None:
        if study.get_trials(deepcopy=False):
            message = f"sweep.name: the study {name!r} was not made by scballast. Choose another name."
            raise ConfigError(message)
        return
    changed = identity.differences(stored)
    if changed:
        old = json.loads(stored)["objectives"]
        same = old == [list(pair) for pair in identity.objectives]
        undo = "Undo the change" if same else f"Undo the change ({objectives_word(old)})"
        message = (
            f"sweep.name: the sweep {name!r} cannot be resumed, because it would mix what cannot be compared: "
            f"{'; '.join(changed)}.\n{undo}, or give the sweep another name: sweep.name=NAME."
        )
        raise ConfigError(message)


def _pairs(objectives: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{direction} {metric}" for metric, direction in objectives)
