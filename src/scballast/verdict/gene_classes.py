"""Classes of genes that readers of a list want to know of: what dominates many lists and seldom is what was asked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import pandas as pd

from scballast.arrays import FloatArray
from scballast.config.schema import GENE_CLASSES

# Nomenclature of human and mouse genes; pseudogenes of ribosomal proteins (RPL23AP7) share their reads. RPS6KA1 and
# its kin are kinases, hence whole names.
_PATTERNS = {
    "ribosomal": r"RP[LS]\d+(A|L|AL|L1|A\d|X|Y\d?)?(P\d+)?|RPLP[0-2](P\d+)?|RPSA(P\d+)?|FAU|UBA52",
    "mitochondrial": r"MT[-.].+",
    "haemoglobin": r"HB(A1|A2|B|D|E1|G1|G2|M|Q1|Z)|HB[AB]-\w+",
}

_NAMES = {
    # Immediate early and heat shock genes that rise while a tissue is taken apart: van den Brink et al. (2017),
    # Single-cell sequencing reveals dissociation-induced gene expression in tissue subpopulations.
    "stress": (
        "ATF3 BAG3 BTG2 CEBPB CEBPD DNAJA1 DNAJB1 DUSP1 EGR1 EGR2 EGR3 FOS FOSB GADD45B GADD45G HSP90AA1 HSP90AB1 "
        "HSPA1A HSPA1B HSPA5 HSPA8 HSPB1 HSPD1 HSPE1 HSPH1 IER2 IER3 IER5 JUN JUNB JUND KLF4 KLF6 NFKBIA NR4A1 "
        "PPP1R15A SOCS3 UBC ZFP36"
    ),
    # Phases S, G2 and M: Tirosh et al. (2016), Dissecting the multicellular ecosystem of metastatic melanoma by
    # single-cell RNA-seq; with the present names of genes that were renamed since.
    "cell cycle": (
        "MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 MLF1IP CENPU HELLS RFC2 RPA2 NASP "
        "RAD51AP1 GMNN WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51 RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 "
        "USP1 CLSPN POLA1 CHAF1B BRIP1 E2F8 HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO "
        "CENPF TACC3 FAM64A PIMREG SMC4 CCNB2 CKAP2L CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B HJURP CDCA3 HN1 "
        "JPT1 CDC20 TTK CDC25C KIF2C RANGAP1 NCAPD2 DLGAP5 CDCA2 CDCA8 ECT2 KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 "
        "CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA"
    ),
}

_MEMBERS = {name: frozenset(listed.split()) for name, listed in _NAMES.items()}
assert (*_PATTERNS, *_NAMES) == GENE_CLASSES

MARKER_RATIO = 2.0
"""A gene is another population's marker if that population has at least so many times its counts."""


@lru_cache(maxsize=65_536)  # lists of all methods and trials name the same genes
def gene_classes(symbol: str) -> tuple[str, ...]:
    """Return the classes of a gene by its symbol, human or mouse; none for most genes.

    Parameters
    ----------
    symbol
        As ``RPL13A``, ``mt-Co1``; ids such as ENSG00000142541 are in no class.

    Returns
    -------
    tuple of str
        Of ``ribosomal``, ``mitochondrial``, ``haemoglobin``, ``stress`` (immediate early, heat shock), ``cell cycle``.
    """
    name = symbol.upper()
    by_pattern = [gene_class for gene_class, pattern in _PATTERNS.items() if re.fullmatch(pattern, name)]
    return (*by_pattern, *(gene_class for gene_class, members in _MEMBERS.items() if name in members))


def gene_flags(population: str, symbol: str, means: Mapping[str, float], markers: Collection[str]) -> str:
    """Say of a gene of a list what a reader should know before believing it.

    Parameters
    ----------
    population
        Whose list it is.
    symbol
        Of the gene.
    means
        By population, its mean counts per 10,000.
    markers
        The populations that have it in their marker lists.

    Returns
    -------
    str
        Its classes and "marker of X": a gene of another population's marker list that is at least ``MARKER_RATIO``
        times as abundant there, which doublets and ambient counts carry over; of several the one with the highest
        mean. Joined by ", "; "" for nothing to say.
    """
    least = MARKER_RATIO * means[population]
    rivals = [(means[other], other) for other in markers if other != population and means[other] >= least]
    return ", ".join([*gene_classes(symbol), *([f"marker of {max(rivals)[1]}"] if rivals else [])])


def with_flags(
    table: pd.DataFrame, means: Mapping[str, FloatArray], genes: Sequence[str], markers: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table of genes with a column ``flags``.

    Parameters
    ----------
    table
        population, estimand, gene, symbol.
    means
        By population, (n_genes,) mean counts per 10,000 of all analysed genes.
    genes
        Names of all analysed genes.
    markers
        A table like the first, whose marker genes are the populations' own; default: the first.
    """
    place = {gene: position for position, gene in enumerate(genes)}
    known = table if markers is None else markers
    of_markers = known[known["estimand"] == "marker"]
    listing: dict[str, list[str]] = defaultdict(list)
    for population, gene in zip(of_markers["population"], of_markers["gene"], strict=True):
        listing[gene].append(str(population))
    flagged = table.assign(flags="")
    for population, rows in table.groupby("population", sort=False):
        flags = {}
        for gene, symbol in dict(zip(rows["gene"], rows["symbol"], strict=True)).items():
            levels = {name: means[name][place[gene]] for name in (str(population), *listing[gene])}
            flags[gene] = gene_flags(str(population), symbol, levels, listing[gene])
        flagged.loc[rows.index, "flags"] = rows["gene"].map(flags)
    return flagged


def without_classes(table: pd.DataFrame, excluded: Sequence[str]) -> pd.DataFrame:
    """Leave out the genes of some classes; ranks stay as they are.

    Parameters
    ----------
    table
        With a column ``symbol``.
    excluded
        Of ``config.schema.GENE_CLASSES``.
    """
    keep = [not set(gene_classes(str(symbol))) & set(excluded) for symbol in table["symbol"]]
    # An empty list would be taken for a choice of no columns.
    return table.loc[keep].reset_index(drop=True)
