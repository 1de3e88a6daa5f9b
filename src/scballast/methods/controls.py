"""Scores that know nothing: what stability and concordance look like without information."""

from __future__ import annotations

from scballast.arrays import FloatArray
from scballast.methods.cell_view import CellView
from scballast.seeds import Stream, generator_for


def random_scores(view: CellView) -> FloatArray:
    """Return standard normal noise, drawn anew for each replicate and population.

    Parameters
    ----------
    view
        Only ``seed``, the names of the populations and the number of genes matter.

    Returns
    -------
    (n_populations, n_genes) float
        The row of a population depends on its name and the seed, not on the other populations.
    """
    n_genes = view.counts.shape[1]
    scores = view.empty_scores()
    for code, name in enumerate(view.populations):
        scores[code] = generator_for(view.seed, Stream.CONTROLS, name).standard_normal(n_genes)
    return scores
