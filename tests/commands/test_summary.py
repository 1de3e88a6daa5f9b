"""What the terminal calls a gene."""

from __future__ import annotations

import pandas as pd

from scballast.commands.summary import _short_names


def test_a_gene_goes_by_its_symbol_and_by_both_where_several_share_it() -> None:
    genes = pd.DataFrame({"gene": ["E1", "E2", "E3", "E4", "E5"], "symbol": ["CD3D", "HLA", "HLA", "", "E5"]})
    assert list(_short_names(genes)) == ["CD3D", "HLA (E2)", "HLA (E3)", "E4", "E5"]
