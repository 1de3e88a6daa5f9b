"""A picture of the latent space: two coordinates per cell, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scballast.arrays import FloatArray
from scballast.experiment.setup import Setup
from scballast.seeds import Stream, generator_for, integer_for
from scballast.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd


MOST_CELLS = 2000
PERPLEXITY = 30.0
FEWEST_CELLS = 10


def embedding_table(setup: Setup, replicate: int, scores: FloatArray) -> pd.DataFrame:
    """Lay the cells of one replicate out in the plane by t-SNE.

    UMAP would do as well, but umap-learn compiles itself anew in every process: 20 s of processor time.

    Parameters
    ----------
    setup
        Data set, replicates and seed.
    replicate
        Position of the replicate.
    scores
        (n_cells, n_factors) position of each of its cells in the latent space.

    Returns
    -------
    DataFrame
        cell, population ("" for cells of none that is ranked), x, y; at most 2,000 cells, drawn at random.
        Empty with fewer than 10 cells.

    References
    ----------
    van der Maaten & Hinton (2008), Visualizing data using t-SNE.
    Kobak & Berens (2019), The art of using t-SNE for single-cell transcriptomics: its start from principal components.
    """
    import pandas as pd

    cells = setup.replicates[replicate].cells
    seed = setup.config.seed
    shown = np.arange(cells.size)
    if cells.size > MOST_CELLS:
        generator = generator_for(seed, Stream.ASSOCIATION, replicate, "embedding")
        shown = np.sort(generator.choice(cells.size, MOST_CELLS, replace=False))
    if shown.size < FEWEST_CELLS:
        return pd.DataFrame(columns=["cell", "population", "x", "y"])
    from sklearn.manifold import TSNE

    model = TSNE(
        perplexity=min(PERPLEXITY, (shown.size - 1) / 3),
        init="pca" if scores.shape[1] > 1 else "random",
        random_state=integer_for(seed, Stream.ASSOCIATION, replicate, "embedding") % 2**32,
        n_jobs=1,
    )
    with one_thread():  # n_jobs is for its neighbours alone; its threads wait for each other 1,000 times
        layout = model.fit_transform(np.asarray(scores[shown], dtype=np.float32))
    codes = setup.dataset.population_codes[cells[shown]]
    names = np.array([*setup.populations, ""], dtype=object)
    return pd.DataFrame(
        {
            "cell": setup.dataset.adata.obs_names.to_numpy(dtype=object)[cells[shown]],
            "population": names[codes],
            "x": np.round(layout[:, 0], 3),
            "y": np.round(layout[:, 1], 3),
        }
    )
