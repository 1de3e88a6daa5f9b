"""Matrix folders in the layouts of several tools: read the same, or refused with what to do."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from tests.helpers.data_examples import N_CELLS, N_GENES, small_adata

from scballast.data.counts_cache import file_identities
from scballast.data.files import open_source
from scballast.data.source import Source
from scballast.errors import DataError

IDS = [f"ENSG{i:011d}" for i in range(N_GENES)]
SYMBOLS = [f"gene{i}" for i in range(N_GENES)]
CELLS = [f"cell{i}" for i in range(N_CELLS)]
FEATURES = [f"{i}\t{s}\tGene Expression" for i, s in zip(IDS, SYMBOLS, strict=True)]


def write(path: Path, lines: list[str], *, compress: bool = False) -> None:
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if compress:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def write_matrix(path: Path, *, genes_first: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = small_adata().X
    scipy.io.mmwrite(path, sp.coo_matrix(counts.T if genes_first else counts).astype(int))


def tenx(
    folder: Path, features: list[str] = FEATURES, barcodes: list[str] = CELLS, *, genes_first: bool = True
) -> Path:
    write_matrix(folder / "matrix.mtx", genes_first=genes_first)
    write(folder / "features.tsv", features)
    write(folder / "barcodes.tsv", barcodes, compress=True)
    return folder


def kallisto(folder: Path, prefix: str = "cells_x_genes", *, names: bool = True) -> Path:
    write_matrix(folder / f"{prefix}.mtx", genes_first=False)
    write(folder / f"{prefix}.genes.txt", IDS)
    write(folder / f"{prefix}.barcodes.txt", CELLS)
    if names:
        write(folder / f"{prefix}.genes.names.txt", SYMBOLS)
    return folder


def alevin_fry(folder: Path, genes: list[str] = IDS) -> Path:
    write_matrix(folder / "alevin" / "quants_mat.mtx", genes_first=False)
    write(folder / "alevin" / "quants_mat_cols.txt", genes)
    write(folder / "alevin" / "quants_mat_rows.txt", CELLS)
    return folder


def parse(folder: Path, matrix: str = "DGE.mtx") -> Path:
    write_matrix(folder / matrix, genes_first=False)
    write(
        folder / "all_genes.csv",
        ["gene_id,gene_name,genome", *(f"{i},{s},hg38" for i, s in zip(IDS, SYMBOLS, strict=True))],
    )
    write(
        folder / "cell_metadata.csv", ["bc_wells,sample,species", *(f"{c},s{i % 2},hg38" for i, c in enumerate(CELLS))]
    )
    return folder


def atlas(folder: Path) -> Path:
    write_matrix(folder / "E-1.counts.mtx", genes_first=True)
    write(folder / "E-1.counts.mtx_rows", [f"{i}\t{i}" for i in IDS])
    write(folder / "E-1.counts.mtx_cols", CELLS)
    return folder


def tables(folder: Path, matrix: str, genes: str, cells: str, *, header: bool = False) -> Path:
    write_matrix(folder / matrix, genes_first=True)
    separator = "," if genes.endswith(".csv") else "\t"
    lines = [separator.join(pair) for pair in zip(IDS, SYMBOLS, strict=True)]
    write(folder / genes, [*([separator.join(("gene", "symbol"))] if header else []), *lines])
    write(folder / cells, [*(["x"] if header else []), *CELLS], compress=True)
    return folder


def simpleaf(folder: Path) -> Path:
    alevin_fry(folder)
    write(folder / "gene_id_to_name.tsv", [f"{i}\t{s}" for i, s in zip(IDS[::-1], SYMBOLS[::-1], strict=True)])
    return folder


def starsolo(folder: Path) -> Path:
    tenx(folder / "Gene" / "filtered")
    write_matrix(folder / "Gene" / "filtered" / "UniqueAndMult-EM.mtx", genes_first=True)
    write(folder / "Gene" / "Summary.csv", ["Reads,1"])
    return folder


def encoded(folder: Path, encoding: str) -> Path:
    path = folder / "features.tsv"
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    return folder


def compressed(folder: Path) -> Path:
    path = folder / "features.tsv"
    path.write_bytes(gzip.compress(path.read_bytes()))
    return folder


def older(folder: Path) -> Path:
    (folder / "features.tsv").rename(folder / "genes.tsv")
    return folder


def empty_beside(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    return folder


def square(folder: Path, *, transposed: bool) -> Path:
    """Write as many cells as genes, whose rates differ as those of real genes do."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(0, 1.5, N_GENES), (N_GENES, N_GENES))
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", sp.coo_matrix(counts if transposed else counts.T))
    write(folder / "features.tsv", FEATURES)
    write(folder / "barcodes.tsv", CELLS[:N_GENES])
    return folder


@pytest.mark.parametrize("transposed", [False, True])
def test_of_as_many_cells_as_genes_it_is_said_that_either_may_be_which(transposed: bool, tmp_path: Path) -> None:
    with open_source(str(square(tmp_path / "x", transposed=transposed))) as source:
        (warning,) = source.warnings
    assert warning.startswith(
        "x: there are as many cells as genes, so that their numbers do not tell whether matrix.mtx is"
    )
    assert ("is it transposed? Then write it the other way round." in warning) == transposed


def opened(path: Path, check: Callable[[Source], None] = lambda source: None) -> Source:
    with open_source(str(path)) as source:
        matrix = source.choose(None)
        assert np.array_equal(matrix.read().toarray(), small_adata().X.toarray())
        assert source.obs.index.tolist() == CELLS
        check(source)
        return source


READ: dict[str, tuple[Callable[[Path], Path], list[str], tuple[str, ...]]] = {
    "10x": (tenx, SYMBOLS, ()),
    "transposed": (
        lambda f: tenx(f, genes_first=False),
        SYMBOLS,
        ("x: matrix.mtx is transposed (cells × genes), and was read as such.",),
    ),
    "header of features": (
        lambda f: tenx(f, ["gene_id\tgene_name\tfeature_type", *FEATURES]),
        SYMBOLS,
        ("the first line of features.tsv is a header and was read as such: 'gene_id', 'gene_name', 'feature_type'.",),
    ),
    "headers of both, transposed": (
        lambda f: tenx(f, ["Ensembl\tSymbol\tType", *FEATURES], ["barcode", *CELLS], genes_first=False),
        SYMBOLS,
        ("features.tsv is a header", "barcodes.tsv.gz is a header", "is transposed"),
    ),
    "R's x": (lambda f: tenx(f, FEATURES, ["x", *CELLS]), SYMBOLS, ("barcodes.tsv.gz is a header",)),
    "R's row names and quotes": (
        lambda f: tenx(
            f,
            ['"V1"\t"V2"', *(f'"{n}"\t"{i}"\t"{s}"' for n, (i, s) in enumerate(zip(IDS, SYMBOLS, strict=True), 1))],
        ),
        SYMBOLS,
        ("features.tsv is a header",),
    ),
    "pandas' row numbers": (lambda f: tenx(f, [f"{n}\t{line}" for n, line in enumerate(FEATURES)]), SYMBOLS, ()),
    "columns in another order": (
        lambda f: tenx(f, [f"{s}\t{i}" for i, s in zip(IDS, SYMBOLS, strict=True)]),
        SYMBOLS,
        (),
    ),
    "columns in another order by the header": (
        lambda f: tenx(f, ["symbol\tid", *(f"{s}\tg-{n}" for n, s in enumerate(SYMBOLS))]),
        SYMBOLS,
        ("features.tsv is a header",),
    ),
    "one column": (lambda f: tenx(f, SYMBOLS), SYMBOLS, ()),
    "a header of unknown words above ids": (
        lambda f: tenx(f, ["foo\tbar\tsort", *FEATURES]),
        SYMBOLS,
        ("features.tsv is a header",),
    ),
    "a header with #": (lambda f: tenx(f, ["#id\tname\ttype", *FEATURES]), SYMBOLS, ("features.tsv is a header",)),
    "pandas' 0": (lambda f: tenx(f, FEATURES, ["0", *CELLS]), SYMBOLS, ("barcodes.tsv.gz is a header",)),
    "blanks for tabs": (lambda f: tenx(f, [line.replace("\t", " ") for line in FEATURES]), SYMBOLS, ()),
    "UTF-16": (lambda f: encoded(tenx(f), "utf-16"), SYMBOLS, ()),
    "UTF-16 without a mark": (lambda f: encoded(tenx(f), "utf-16-be"), SYMBOLS, ()),
    "an empty list beside a good one": (
        lambda f: empty_beside(tenx(f), "features.tsv.gz"),
        SYMBOLS,
        ("x: features.tsv.gz is empty; features.tsv is read in its place.",),
    ),
    "an empty list of newer tools beside one of older": (
        lambda f: empty_beside(older(tenx(f)), "features.tsv"),
        SYMBOLS,
        ("x: features.tsv is empty; genes.tsv is read in its place.",),
    ),
    "compressed under a plain name": (lambda f: compressed(tenx(f)), SYMBOLS, ()),
    "Expression Atlas": (atlas, IDS, ()),
    "tables": (lambda f: tables(f, "counts.mtx", "genes.tsv", "cells.txt"), SYMBOLS, ()),
    "tables with commas": (
        lambda f: tables(f, "GSM1_counts.mtx", "GSM1_genes.csv", "GSM1_barcodes.csv", header=True),
        SYMBOLS,
        (),
    ),
    "STARsolo": (starsolo, SYMBOLS, ("x: the matrix in 'Gene/filtered' is read.",)),
    "kallisto|bustools": (kallisto, IDS, ()),
    "bustools": (lambda f: kallisto(f, "output", names=False), IDS, ()),
    "kb": (lambda f: kallisto(f / "counts_unfiltered").parent, IDS, ("x: the matrix in 'counts_unfiltered' is read.",)),
    "alevin-fry": (alevin_fry, IDS, ("x: the matrix in 'alevin' is read.",)),
    "Parse": (parse, IDS, ()),
    "Parse, newer": (lambda f: parse(f, "count_matrix.mtx"), IDS, ()),
}


@pytest.mark.parametrize("name", READ)
def test_every_layout_that_is_unambiguous_gives_the_same_counts(name: str, tmp_path: Path) -> None:
    make, genes, warnings = READ[name]
    source = opened(make(tmp_path / "x"), lambda source: None)
    assert source.choose(None).var().index.tolist() == genes
    assert len(source.warnings) == len(warnings)
    for said, wanted in zip(source.warnings, warnings, strict=True):
        assert wanted in said


def test_symbols_types_and_metadata_are_kept(tmp_path: Path) -> None:
    var, _ = opened(kallisto(tmp_path / "k")).choose(None).var().readable()
    assert var["gene_symbols"].tolist() == SYMBOLS
    source = opened(parse(tmp_path / "p"))
    assert source.choose(None).var().readable()[0]["gene_symbols"].tolist() == SYMBOLS
    assert source.obs.frame(["sample"])["sample"].tolist() == ["s0", "s1"] * (N_CELLS // 2)
    var, _ = opened(simpleaf(tmp_path / "s")).choose(None).var().readable()
    assert var["gene_symbols"].tolist() == SYMBOLS
    var, _ = opened(tenx(tmp_path / "t")).choose(None).var().readable()
    assert var["gene_ids"].tolist() == IDS
    assert set(var["feature_types"]) == {"Gene Expression"}


def empty(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name, [""])
    return folder


def usa_mode(folder: Path) -> Path:
    third = N_GENES // 3
    counts = sp.coo_matrix(small_adata().X[:, : 3 * third])
    alevin_fry(folder)
    scipy.io.mmwrite(folder / "alevin" / "quants_mat.mtx", counts.astype(int))
    genes = [f"{i}{status}" for status in ("", "-U", "-A") for i in IDS[:third]]
    write(folder / "alevin" / "quants_mat_cols.txt", genes)
    return folder


def velocyto(folder: Path) -> Path:
    for name in ("spliced", "unspliced", "ambiguous"):
        write_matrix(folder / f"{name}.mtx", genes_first=True)
    write(folder / "features.tsv", FEATURES)
    return folder


SAVED = 'adata.write_h5ad("counts.h5ad")'
REFUSED: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "cellranger outs": (
        lambda f: tenx(tenx(f / "raw_feature_bc_matrix").parent / "filtered_feature_bc_matrix").parent,
        (
            "there are 2 matrices",
            "'filtered_feature_bc_matrix/matrix.mtx', 'raw_feature_bc_matrix/matrix.mtx'",
            "set data.path to the folder",
        ),
    ),
    "alevin-fry in USA mode": (usa_mode, ("alevin-fry in USA mode", 'pyroe.load_fry("x"', SAVED)),
    "salmon alevin": (
        lambda f: empty(f, "alevin/quants_mat.gz", "alevin/quants_mat_cols.txt"),
        ("salmon alevin", "read_quants_bin", SAVED, "--dumpMtx"),
    ),
    "STARsolo Velocyto": (velocyto, ("spliced and unspliced", 'scanpy.read_mtx("spliced.mtx")', SAVED)),
    "STARsolo Velocyto below": (
        lambda f: velocyto(f / "Velocyto" / "raw").parents[1],
        ("in 'Velocyto/raw': ", "spliced and unspliced", 'scanpy.read_mtx("spliced.mtx")', SAVED),
    ),
    "kallisto lamanno below": (
        lambda f: kallisto(kallisto(f / "counts", "spliced"), "unspliced").parent,
        ("spliced and unspliced", "kallisto|bustools (lamanno)", SAVED),
    ),
    "kallisto nac below": (
        lambda f: empty(f, "counts/cells_x_genes.mature.mtx", "counts/cells_x_genes.ambiguous.mtx"),
        ("kallisto|bustools (nac)", SAVED),
    ),
    "STARsolo SJ": (
        lambda f: tenx(f / "raw", [f"chr1\t{i}\t{i + 99}\t2\t2\t1\t5\t0\t38" for i in range(N_GENES)]).parent,
        ("counts splice junctions, not genes", "Gene/filtered"),
    ),
    "Cell Ranger multi with its unfiltered matrix": (
        lambda f: tenx(tenx(f / "multi/count/raw").parents[2] / "per_sample_outs/s1/count/sample_filtered").parents[3],
        ("there are 2 matrices", "'multi/count/raw/matrix.mtx', 'per_sample_outs/s1/count/sample_filtered/matrix.mtx'"),
    ),
    "kallisto nac": (
        lambda f: empty(f, "cells_x_genes.mature.mtx", "cells_x_genes.nascent.mtx", "cells_x_genes.genes.txt"),
        ("kallisto|bustools (nac)", "--h5ad", SAVED),
    ),
    "kallisto tcc": (lambda f: empty(f, "cells_x_tcc.mtx"), ("equivalence classes", "without --tcc")),
    "BD csv": (
        lambda f: empty(f, "S1_RSEC_MolsPerCell.csv", "S1_Metrics_Summary.csv"),
        ("BD Rhapsody", 'pandas.read_csv("S1_RSEC_MolsPerCell.csv", comment="#", index_col=0)', SAVED),
    ),
    "BD csv beside a folder with a file of counts": (
        lambda f: empty(f, "S1_RSEC_MolsPerCell.csv", "outs/counts.h5ad"),
        ("BD Rhapsody", SAVED),
    ),
    "Cell Ranger outs with both matrices": (
        lambda f: empty(tenx(tenx(f / "raw").parent / "filtered").parent, "molecule_info.h5"),
        ("there are 2 matrices", "'filtered/matrix.mtx'"),
    ),
    "simpleaf with a file": (
        lambda f: empty(f, "af_quant/alevin/quants.h5ad"),
        ("holds 'af_quant/alevin/quants.h5ad': set data.path",),
    ),
    "Cell Ranger ATAC": (
        lambda f: empty(f, "matrix.mtx", "peaks.bed", "barcodes.tsv"),
        ("Cell Ranger ATAC", "the matrix of gene expression of the same cells"),
    ),
    "BD zip": (
        lambda f: empty(f, "S1_RSEC_MolsPerCell_MEX.zip"),
        ("BD Rhapsody", "Unpack S1_RSEC_MolsPerCell_MEX.zip"),
    ),
    "a folder around a file": (lambda f: empty(f, "adata.h5ad"), ("holds 'adata.h5ad': set data.path to the file",)),
    "an unknown matrix": (
        lambda f: empty(f, "expression.mtx"),
        ("beside expression.mtx there are no lists", 'scanpy.read_mtx("expression.mtx")', SAVED),
    ),
    "barcodes missing": (
        lambda f: kallisto(f) if (kallisto(f) / "cells_x_genes.barcodes.txt").unlink() else f,
        ("cells_x_genes.barcodes.txt[.gz] is missing beside cells_x_genes.mtx",),
    ),
    "other numbers": (lambda f: tenx(f, FEATURES[:-2]), ("50 genes and 60 cells, but there are 48 features",)),
    "lists that are swapped": (
        lambda f: tenx(f, [f"{'ACGT' * 4}-{i}" for i in range(N_CELLS)], IDS),
        ("features.tsv lists barcodes ('ACGTACGTACGTACGT-59')", "the two are swapped. Exchange their names."),
    ),
    "ids of genes in the list of cells": (
        lambda f: tenx(f, [f"s{i}" for i in range(N_CELLS)], FEATURES),
        (
            "features.tsv lists barcodes ('s59')",
            f"barcodes.tsv.gz what should be genes ('{IDS[-1]}'): the two are swapped",
        ),
    ),
    "types of genes in the list of cells": (
        lambda f: tenx(f, [f"s{i}" for i in range(N_CELLS)], [f"{s}\tGene Expression" for s in SYMBOLS]),
        ("the two are swapped. Exchange their names.",),
    ),
    "cells with samples and lanes in the list of genes": (
        lambda f: tenx(f, [f"s1_{'ACGT' * 4}-{i % 8}" for i in range(N_CELLS)], SYMBOLS),
        ("the two are swapped. Exchange their names.",),
    ),
    "an empty list": (lambda f: empty_beside(tenx(f), "features.tsv"), ("features.tsv is empty. Copy or write it",)),
    "headers in unknown words": (
        lambda f: tenx(f, ["Gen\tName", *FEATURES], ["Zelle", *CELLS]),
        ("there are 51 features and 61 barcodes", "a header ('Gen', 'Name' and 'Zelle')? Then remove it."),
    ),
    "a blank line": (
        lambda f: tenx(f, FEATURES, [*CELLS[:5], "", *CELLS[5:]]),
        ("and 61 barcodes. The files belong to different data.",),
    ),
    "a last line that is no header": (lambda f: tenx(f, [*FEATURES, "E\tX"]), ("but there are 51 features",)),
}


@pytest.mark.parametrize("separator", [",", ";", " ", "\t"])
def test_lists_without_tabs_are_read_by_what_separates_them(separator: str, tmp_path: Path) -> None:
    lines = [f"{i}{separator}{s}" for i, s in zip(IDS, SYMBOLS, strict=True)]
    var = opened(tenx(tmp_path / "x", lines)).choose(None).var()
    assert list(var.index) == SYMBOLS
    assert var.readable()[0]["gene_ids"].tolist() == IDS


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_second_column_of_types_is_no_symbol(separator: str, tmp_path: Path) -> None:
    kinds = ["Gene Expression"] * (N_GENES - 10) + ["Antibody Capture"] * 10
    lines = [f"{s}{separator}{kind}" for s, kind in zip(SYMBOLS, kinds, strict=True)]
    var = opened(tenx(tmp_path / "x", lines)).choose(None).var()
    assert list(var.index) == SYMBOLS
    assert var.readable()[0]["feature_types"].tolist() == kinds


@pytest.mark.parametrize("name", ["ERCC-00001 like, with a comma", "two words"])
def test_a_gene_with_a_sign_in_its_name_keeps_it(name: str, tmp_path: Path) -> None:
    var = opened(tenx(tmp_path / "x", [name, *SYMBOLS[1:]])).choose(None).var()
    assert list(var.index) == [name, *SYMBOLS[1:]]


def test_a_link_to_nothing_in_the_folder_is_passed_over(tmp_path: Path) -> None:
    folder = tenx(tmp_path / "x")
    (folder / ".#features.tsv").symlink_to("/nowhere")
    names, _, sizes, *_ = zip(*file_identities(folder), strict=True)
    assert sum(sizes) == sum(path.stat().st_size for path in folder.iterdir() if path.exists())
    assert list(names) == ["barcodes.tsv.gz", "features.tsv", "matrix.mtx"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    make, says = REFUSED[name]
    path = make(tmp_path / "x")
    with pytest.raises(DataError) as caught, open_source(str(path)):
        pass
    message = str(caught.value)
    assert message.startswith("x: ")
    assert "\n" not in message
    for fragment in says:
        assert fragment in message


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("x.loom", 'anndata.io.read_loom("x.loom", sparse=True)'),
        ("x.csv.gz", 'anndata.io.read_csv("x.csv.gz")'),
        ("x.RData", 'in R: load("x.RData"); zellkonverter::writeH5AD('),
        ("x.rds", 'in R: zellkonverter::writeH5AD(Seurat::as.SingleCellExperiment(readRDS("x.rds")), "counts.h5ad")'),
        ("x.h5mu", 'mudata.read_h5mu("x.h5mu").mod["rna"]'),
    ],
)
def test_files_of_other_tools_get_their_two_lines(name: str, line: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught, open_source(str(tmp_path / name)):
        pass
    assert line in str(caught.value)
    assert SAVED in str(caught.value) or "in R" in line
