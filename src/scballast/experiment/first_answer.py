"""The answer of the methods that look at cells alone, which stands long before the models are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from scballast.arrays import FloatArray
from scballast.experiment.gene_lists import gene_list_tables
from scballast.experiment.setup import Setup
from scballast.methods.registry import CONTROLS
from scballast.verdict.answer import answer_table
from scballast.verdict.confirmation import confirm
from scballast.verdict.score_set import ScoreSet
from scballast.verdict.tables import concordance_table, consensus_table, stability_table
from scballast.verdict.unseen import Cells

OnFirstAnswer = Callable[[Mapping[str, "pd.DataFrame"]], None]
"""What is done with the tables ``answer`` and ``answer_genes`` of the methods that look at cells alone."""


def tell_first_answer(setup: Setup, score_set: ScoreSet, cells: Cells, tell: OnFirstAnswer) -> dict[str, FloatArray]:
    """Decide the answer among the methods that look at cells alone, and tell it.

    Parameters
    ----------
    setup
        The experiment.
    score_set
        Of ``setup.from_cells``.
    cells
        All cells.
    tell
        Called once; not at all where no method looks at cells alone.

    Returns
    -------
    dict
        p-values of what was tested, for :func:`scballast.verdict.confirmation.confirm` (``known``).
    """
    if all(method.name in CONTROLS for method in setup.from_cells):
        return {}
    top_k = setup.config.rank.top_k
    confirmation = confirm(score_set, cells, setup.replicates, top_k, seed=setup.config.seed)
    stability, concordance = stability_table(score_set, top_k), concordance_table(score_set, top_k)
    tables = {
        "answer": answer_table(stability, concordance, confirmation.summary, top_k=top_k),
        "consensus": consensus_table(score_set, top_k, confirmation.q_values),
    }
    tell(tables | gene_list_tables(setup, cells, tables))
    return confirmation.p_values
