"""What the words of a report mean, which depends on how its replicates were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scballast.report.stored_tables import setting

if TYPE_CHECKING:
    from scballast.report.stored_tables import ResultFolder

FEWEST_FOR_ERROR = 4  # replicates: two pairs without a common cell
KEPT_FREQUENCY = 0.9  # selection frequency of the genes that the error bound speaks of

_AGAIN = {
    "subsample": "when the cells are drawn anew",
    "bootstrap": "when the cells are drawn anew with replacement",
    "seed": "when the same cells are trained on with other seeds",
    "thin": "when the cells are drawn anew, under labels that other counts gave",
    "donor": "when other samples are taken",
}
_BETWEEN_POPULATIONS = "the same index between lists of different populations (abundant genes recur everywhere)"
_OR_OF_RESPONSE = (
    "the same index between lists of different populations (abundant genes recur everywhere) or, of response genes, "
    "between lists under permuted conditions (populations may respond alike)"
)


def again(kind: object) -> str:
    """Say in what circumstances a stable list comes back, by the kind of resampling."""
    return _AGAIN.get(str(kind), "in another replicate")


def of_drawn(results: ResultFolder) -> str:
    """Say how many populations a figure leaves out; nothing where it has all."""
    n_drawn, n = len(results.drawn), len(results.populations)
    return "" if n_drawn == n else f" Drawn: the {n_drawn} largest of {n} populations; the tables have all."


def floor_parts(results: ResultFolder) -> str:
    """Say what the floor of these results is made of.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``config/resolved.yaml``.

    Returns
    -------
    str
        The end of a sentence that begins with "the floor is".
    """
    first = _BETWEEN_POPULATIONS
    if results.methods("response"):
        first = _OR_OF_RESPONSE
    if not compares_disjoint_cells(results):
        return f"{first}; the replicates have cells in common, so it says nothing about what other cells would show"
    shared = "what replicates agree in only because they have cells in common"
    if results.headline["n_replicates"].max() < FEWEST_FOR_ERROR:
        return f"{first} plus {shared}; the sampling error of both is unknown with so few replicates"
    return f"the sum of {first}, of {shared}, and of the 95% limit of the sampling error of both"


def compares_disjoint_cells(results: ResultFolder) -> bool:
    """Whether the floors of these results rest on replicates without a common cell."""
    if setting(results.config, "resample.kind") in {"seed", "bootstrap"}:
        return False
    headline = results.headline
    return "disjoint" in headline and bool(headline["disjoint"].notna().any())


def error_bound(results: ResultFolder) -> str:
    """Bound the number of falsely selected genes, where the theorem applies.

    Parameters
    ----------
    results
        Result folder; read: ``rankings``, ``config/resolved.yaml``.

    Returns
    -------
    str
        One sentence; ``""`` unless the replicates are halves of the cells drawn without replacement.
    """
    from scballast.agreement.complementary_pairs import r_concave_bound
    from scballast.agreement.stability import selection_error_bound

    n_genes = results.n_genes
    half = setting(results.config, "resample.fraction", 0.5) == 0.5
    if setting(results.config, "resample.kind") != "subsample" or not half or not 0 < results.top_k < n_genes:
        return ""
    bound = float(selection_error_bound(results.top_k, n_genes, KEPT_FREQUENCY))
    sharper = ""
    n_pairs = int(results.headline["n_replicates"].max()) // 2
    if n_pairs > 1:
        concave = float(r_concave_bound(results.top_k, n_genes, KEPT_FREQUENCY, n_pairs))
        sharper = (
            f" If the chances of selection are r-concave, at most {concave:.2f} (Shah & Samworth 2013, "
            f"{n_pairs} complementary pairs)."
        )
    return (
        f"Of a list’s genes with a selection frequency of {KEPT_FREQUENCY:.2f} or more, at most {bound:.2f} are "
        f"expected to be there by chance: q²/((2π − 1)G) with q = {results.top_k} genes selected of "
        f"G = {n_genes:,} and π = {KEPT_FREQUENCY:g} (Meinshausen & Bühlmann 2010, Theorem 1, for random halves of the "
        f"cells; it takes genes without a signal to be alike, and frequencies over many halves).{sharper}"
    )
