"""The two conditions that populations are compared under, and what the design of the data allows."""

from __future__ import annotations

import dataclasses

import numpy as np

from scballast.arrays import cross_table
from scballast.config.schema import DataConfig
from scballast.data.annotation import Annotation
from scballast.data.columns import Column, read_column
from scballast.data.names import quote, quoted
from scballast.data.remarks import Remarks
from scballast.errors import ConfigError

REFERENCE_WORDS = (
    *("control", "controls", "ctrl", "ctl", "untreated", "unstimulated", "unstim", "vehicle", "mock", "placebo"),
    *("healthy", "normal", "wt", "wildtype", "wild-type", "wild type", "baseline", "resting", "dmso", "pbs"),
)
"""Names of a condition, in lower case, that is taken for the reference where none is named."""


def read_conditions(obs: Annotation, config: DataConfig, *, remarks: Remarks) -> Column | None:
    """Return the column of conditions, the reference first, or None where none is named.

    Parameters
    ----------
    obs
        Annotation of the cells.
    config
        ``condition_key``, ``condition_reference`` and the other keys, none of which may name the same column.
    remarks
        Of the file; what is noticed is added.

    Raises
    ------
    DataError
        The column is absent, or does not hold two conditions.
    ConfigError
        Another key names the same column, or the reference is not one of the conditions.
    """
    key = config.condition_key
    if key is None:
        return None
    for other in ("population_key", "batch_key", "sample_key"):
        if getattr(config, other) == key:
            msg = (
                f"{remarks.label}: data.condition_key and data.{other} are both {quote(key)}: a condition could not be "
                "told from it. Name different columns of obs."
            )
            raise ConfigError(msg)
    column = read_column(obs, key, option="data.condition_key", remarks=remarks)
    if len(column.names) != 2:
        remarks.refuse(
            f"obs[{quote(key)}] holds {len(column.names)} conditions ({quoted(column.names[:6])}), and "
            "data.condition_key compares two. Name a column of two; cells that are to take no part have no value in it."
        )
    reference = config.condition_reference
    if reference is not None and reference not in column.names:
        msg = f"data.condition_reference: {quote(reference)} is not one of the conditions: {quoted(column.names)}."
        raise ConfigError(msg)
    if reference is None:
        like_control = [name for name in column.names if name.lower() in REFERENCE_WORDS]
        reference = like_control[0] if len(like_control) == 1 else column.names[0]
    if reference == column.names[0]:
        return column
    codes = np.where(column.codes < 0, column.codes, 1 - column.codes)
    return dataclasses.replace(column, names=column.names[::-1], codes=codes)


def note_conditions(conditions: Column, batches: Column | None, samples: Column | None, remarks: Remarks) -> None:
    """Say what is compared with what, and what cannot be told apart.

    Raises
    ------
    DataError
        No cell of a condition is left.
    """
    sizes = conditions.sizes()
    if (sizes == 0).any():
        lost = conditions.names[int(np.argmin(sizes))]
        remarks.refuse(
            f"no cell of condition {quote(lost)} of obs[{quote(conditions.key)}] is left. "
            "Check the column, or leave data.condition_key out."
        )
    reference, other = conditions.names
    remarks.note(
        f"response genes compare {quote(other)} with {quote(reference)}, the reference, of "
        f"obs[{quote(conditions.key)}] (data.condition_reference)."
    )
    missing = int((conditions.codes < 0).sum())
    if missing:
        remarks.note(f"{missing:,} cells have no value in obs[{quote(conditions.key)}] and take no part in response.")
    if batches is not None and not _crossed(conditions, batches):
        remarks.note(
            f"every batch of obs[{quote(batches.key)}] has one condition: a response cannot be told from "
            "batches, and a model that is conditioned on them takes it out of its latent space. Leave data.batch_key "
            "out, or name a column whose batches have both conditions."
        )
    if samples is None:
        remarks.note(
            "data.sample_key is not set: cells are the evidence for response genes, and whatever differs "
            "between donors or preparations passes for a response. Set it to the column with the donors."
        )
    elif not _crossed(conditions, samples):
        remarks.note(
            f"every donor of obs[{quote(samples.key)}] has one condition: response genes are tested with "
            "resample.kind=donor alone, in donors that no list has seen. If donors gave cells under both conditions, "
            "data.sample_key should name the donor and not the sample."
        )


def _crossed(conditions: Column, groups: Column) -> bool:
    """Whether any group has cells of both conditions."""
    table = cross_table(conditions.codes, 2, groups.codes, len(groups.names))
    return bool((table > 0).all(axis=0).any())
