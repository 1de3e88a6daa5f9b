"""Lists of response genes of made-up donors, tested in cells that they have not seen."""

from __future__ import annotations

import numpy as np
from tests.helpers.response_examples import Example

from scballast.data.replicates import draw_replicates
from scballast.methods.method import RESPONSE_NULL, NamedMethod
from scballast.methods.response import permuted_conditions, response_wilcoxon_scores
from scballast.verdict.confirmation import Confirmation, confirm
from scballast.verdict.score_set import ScoreSet, rank_scores
from scballast.verdict.unseen import Cells

RESPONSE, NULL = NamedMethod("response_wilcoxon", "response"), NamedMethod(RESPONSE_NULL, "response")


def confirmed_lists(
    example: Example, kind: str, seed: int = 0, top_k: int = 20
) -> tuple[Confirmation, ScoreSet, Cells]:
    """Two halves of one population, ranked by the rank test of real and of permuted conditions, and confirmed."""
    replicates = draw_replicates(kind, 2, example.codes, ("A",), seed=seed, samples=example.donors)  # type: ignore[arg-type]
    generator = np.random.default_rng(seed)
    null = permuted_conditions(example.conditions, example.codes, example.donors, generator)
    permuted = example.with_conditions(null)
    scores = {
        name: np.stack([response_wilcoxon_scores(one.view(replicate.cells)) for replicate in replicates])
        for name, one in (("response_wilcoxon", example), (RESPONSE_NULL, permuted))
    }
    genes = [f"gene{number}" for number in range(example.counts.shape[1])]
    score_set = rank_scores(
        scores, methods=[RESPONSE, NULL], populations=("A",), genes=genes, resample_kind=kind, seed=seed
    )
    cells = Cells(
        example.counts,
        example.total_counts,
        example.codes,
        samples=example.donors,
        conditions=example.conditions,
        null_conditions=null,
    )
    return confirm(score_set, cells, replicates, top_k, seed=seed), score_set, cells
