"""Files of other tools that are not read: what they are, and the two lines of Python that write an ``.h5ad``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from scballast.data.names import quote, quoted

DEEPEST = 4
"""How far below the named folder files are looked for: per_sample_outs/S1/count/sample_filtered_feature_bc_matrix."""
JUNCTION_COLUMNS = 9
"""Of STAR's ``SJ.out.tab``."""
SAVE = 'adata.write_h5ad("counts.h5ad")'

BY_SUFFIX = {
    ".loom": 'adata = anndata.io.read_loom("{name}", sparse=True)',
    ".h5mu": 'adata = mudata.read_h5mu("{name}").mod["rna"]',
    ".csv": 'adata = anndata.io.read_csv("{name}")  # cells × genes; for genes × cells add .T',
    ".tsv": 'adata = anndata.io.read_text("{name}", delimiter="\\t")  # cells × genes; for genes × cells add .T',
    ".txt": 'adata = anndata.io.read_text("{name}", delimiter="\\t")  # cells × genes; for genes × cells add .T',
    ".xlsx": 'adata = anndata.AnnData(pandas.read_excel("{name}", index_col=0))  # cells × genes',
    ".parquet": 'adata = anndata.AnnData(pandas.read_parquet("{name}"))  # cells × genes',
    ".rds": 'in R: zellkonverter::writeH5AD(Seurat::as.SingleCellExperiment(readRDS("{name}")), "counts.h5ad")',
    ".rdata": 'in R: load("{name}"); zellkonverter::writeH5AD(Seurat::as.SingleCellExperiment(OBJECT), "counts.h5ad")',
    ".h5seurat": 'in R: SeuratDisk::Convert("{name}", dest = "h5ad")',
}
"""How files of these types become an AnnData; those from R write the file themselves."""
ARCHIVES = (".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z")
NOT_COUNTS = re.compile(r"(.*/)?.*(molecule_info|probe_bc_matrix)\.h5")
"""Files of Cell Ranger beside those of counts."""


def two_lines(first: str) -> str:
    """Return the advice to write an ``.h5ad`` from Python, on one line."""
    return f"Two lines of Python turn it into an .h5ad: {first} ; {SAVE}"


def two_lines_of_mtx(name: str) -> str:
    """Return the advice for a matrix of which only the values are known."""
    return (
        two_lines(f'adata = scanpy.read_mtx("{name}").T  # without .T if its rows are cells')
        + " (set adata.obs_names and adata.var_names to the cells and genes before)."
    )


def file_hint(name: str) -> str:
    """Return how a file of a type that is not read becomes an ``.h5ad``; ``""`` where that is not known."""
    bare = name.removesuffix(".gz")
    line = BY_SUFFIX.get(Path(bare).suffix.lower())
    if line is None:
        return " It is an archive: unpack it first." if Path(name).suffix.lower() in ARCHIVES else ""
    line = line.format(name=name)
    return f" To write an .h5ad, {line}." if line.startswith("in R") else f" {two_lines(line)}."


def foreign_layout(folder: Path) -> str | None:
    """Name the tool that wrote a folder which is not read, and how it becomes an ``.h5ad``; None: no such folder."""
    names = sorted(path.name for path in folder.iterdir())
    bare = {name.removesuffix(".gz") for name in names}
    if "peaks.bed" in bare and not bare & {"features.tsv", "genes.tsv"}:
        return (
            "this is a folder of Cell Ranger ATAC: its matrix counts fragments in peaks, not transcripts of genes. Use "
            "the matrix of gene expression of the same cells."
        )
    if {"spliced.mtx", "unspliced.mtx"} <= bare:
        return (
            "this is a folder of STARsolo (Velocyto) or kallisto|bustools (lamanno) with spliced and unspliced counts "
            "apart. Name the folder of their sum (Gene or GeneFull of STARsolo), or add them. "
            + two_lines('adata = scanpy.read_mtx("spliced.mtx"); adata.X += scanpy.read_mtx("unspliced.mtx").X')
            + " (STARsolo: adata = adata.T; set obs_names and var_names from the two lists beside)."
        )
    if any(re.search(r"\.(mature|nascent)\.mtx$", name) for name in bare):
        return (
            "this is a folder of kallisto|bustools (nac) with mature, nascent and ambiguous counts apart. Run kb count "
            "with --h5ad and --sum=total and name the .h5ad, or add them. "
            + two_lines(
                'adata = scanpy.read_mtx("cells_x_genes.mature.mtx"); adata.X += '
                'scanpy.read_mtx("cells_x_genes.ambiguous.mtx").X'
            )
            + " (set obs_names and var_names from the two lists beside)."
        )
    if any(name.endswith("x_tcc.mtx") for name in bare):
        return (
            "this is a folder of kallisto|bustools with counts of equivalence classes, not of genes. Run kb count "
            "without --tcc and name its folder counts_unfiltered."
        )
    for place in (folder, folder / "alevin"):
        if (place / "quants_mat.gz").is_file() and not any(place.glob("quants_mat.mtx*")):
            return (
                "this is a folder of salmon alevin, whose quants_mat.gz has a format of its own. "
                + two_lines('adata = anndata.AnnData(vpolo.alevin.parser.read_quants_bin("FOLDER"))')
                + ". Or run salmon alevin with --dumpMtx."
            )
    for pattern, tool, how in (
        (r".*_MEX\.zip", "BD Rhapsody", "Unpack {name} into a folder of its own and name that."),
        (
            r".*MolsPerCell.*\.csv(\.gz)?",
            "BD Rhapsody",
            two_lines('adata = anndata.AnnData(pandas.read_csv("{name}", comment="#", index_col=0))') + ".",
        ),
    ):
        tool_files = [name for name in names if re.fullmatch(pattern, name)]
        if tool_files and not any(below(folder, "*.mtx*")):
            return f"this is a folder of {tool}: {quoted(tool_files, 4)}. {how.format(name=tool_files[0])}"
    here = [name for name in names if name.lower().endswith((".h5ad", ".h5"))]
    deeper = [] if here or any(below(folder, "*.mtx*")) else [*below(folder, "*.h5ad"), *below(folder, "*.h5")]
    files = [name for name in here or deeper if not NOT_COUNTS.fullmatch(name)]
    if files and not any(name.endswith(".mtx") for name in bare):
        return f"this folder holds {quoted(files)}: set data.path to the file, for example {quote(folder / files[0])}."
    return None


def below(folder: Path, pattern: str) -> Iterator[str]:
    """Yield the paths in ``folder``, from the top to ``DEEPEST`` folders down, of files that fit a pattern."""
    for depth in range(DEEPEST + 1):
        for path in sorted(folder.glob("*/" * depth + pattern)):
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def spliced_and_unspliced(genes: Sequence[str], folder: Path) -> str | None:
    """Say what to do with alevin-fry's three columns per gene (spliced, unspliced, ambiguous); None: one per gene."""
    third = len(genes) // 3
    if (
        not third
        or len(genes) % 3
        or any(
            f"{gene}{status}" != genes[part * third + position]
            for part, status in ((1, "-U"), (2, "-A"))
            for position, gene in enumerate(genes[:third])
        )
    ):
        return None
    return (
        "this is a folder of alevin-fry in USA mode: spliced, unspliced and ambiguous counts of each gene stand in "
        "columns of their own. "
        + two_lines(f'adata = pyroe.load_fry("{folder.name}", output_format="scRNA")')
        + ' (output_format="snRNA" adds the unspliced counts, for nuclei).'
    )


def splice_junctions(features: Sequence[Sequence[str]]) -> str | None:
    """Say what to do where STARsolo's list has splice junctions (a chromosome and eight numbers); None: it has not."""
    if not all(len(row) == len(features[0]) == JUNCTION_COLUMNS and all(map(str.isdigit, row[1:])) for row in features):
        return None
    return (
        "this is a folder of STARsolo (SJ): its matrix counts splice junctions, not genes. Name the folder of genes "
        "of the same cells (Gene/filtered or GeneFull/filtered)."
    )
