"""Which genes are flagged, and which only look like it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scballast.verdict.gene_classes import gene_classes, gene_flags, with_flags, without_classes


@pytest.mark.parametrize(
    ("symbol", "classes"),
    [
        ("RPL13A", ("ribosomal",)),
        ("Rps4x", ("ribosomal",)),
        ("RPLP0", ("ribosomal",)),
        ("RPL23AP7", ("ribosomal",)),
        ("RPS6KA1", ()),  # a kinase
        ("RPN1", ()),
        ("MT-CO1", ("mitochondrial",)),
        ("mt-Nd4", ("mitochondrial",)),
        ("MTOR", ()),
        ("MT1X", ()),  # a metallothionein
        ("HBB", ("haemoglobin",)),
        ("Hba-a1", ("haemoglobin",)),
        ("HBEGF", ()),
        ("FOS", ("stress",)),
        ("HSPA1A", ("stress",)),
        ("MKI67", ("cell cycle",)),
        ("CD3D", ()),
        ("ENSG00000142541", ()),
    ],
)
def test_classes_follow_the_nomenclature(symbol: str, classes: tuple[str, ...]) -> None:
    assert gene_classes(symbol) == classes


def test_a_marker_of_another_population_is_named_where_it_is_more_abundant() -> None:
    assert gene_flags("T", "LYZ", {"T": 1.0, "Mono": 50.0, "NK": 1.0}, ["Mono"]) == "marker of Mono"
    assert gene_flags("T", "CD3D", {"T": 8.0, "Mono": 9.0, "NK": 1.0}, ["T", "Mono"]) == ""
    assert gene_flags("T", "NKG7", {"T": 2.0, "Mono": 1.0, "NK": 3.9}, ["NK"]) == ""
    assert gene_flags("T", "RPL3", {"T": 9.0, "Mono": 9.0, "NK": 9.0}, []) == "ribosomal"
    assert gene_flags("T", "RPL3", {"T": 1.0, "Mono": 2.0, "NK": 9.0}, ["Mono", "NK"]) == "ribosomal, marker of NK"


def test_flags_stand_beside_their_own_gene_whatever_the_order() -> None:
    table = pd.DataFrame(
        {
            "population": ["T", "Mono", "T"],
            "estimand": ["program", "marker", "program"],
            "gene": ["g1", "g1", "g2"],
            "symbol": ["LYZ", "LYZ", "JUN"],
        }
    )
    means = {"T": np.array([1.0, 1.0]), "Mono": np.array([9.0, 1.0])}
    flagged = with_flags(table, means, ["g1", "g2"])
    assert list(flagged["flags"]) == ["marker of Mono", "", "stress"]
    assert list(without_classes(flagged, ["stress"])["gene"]) == ["g1", "g1"]
    # The same genes in the lists of several methods; whose markers count is said by another table.
    twice = pd.concat([table, table[::-1]], ignore_index=True)
    assert list(with_flags(twice, means, ["g1", "g2"], markers=table)["flags"]) == [
        *flagged["flags"],
        *flagged["flags"][::-1],
    ]
    assert list(with_flags(table, means, ["g1", "g2"], markers=table.iloc[:1])["flags"]) == ["", "", "stress"]
    assert list(with_flags(table.iloc[:0], means, ["g1", "g2"]).columns) == [*table.columns, "flags"]


def test_a_table_of_no_genes_keeps_its_columns() -> None:
    nothing = pd.DataFrame(columns=["population", "estimand", "gene", "symbol"])
    assert list(without_classes(nothing, ["ribosomal"]).columns) == list(nothing.columns)
    assert list(without_classes(nothing, []).columns) == list(nothing.columns)
