"""Files too large for memory: seconds and peak memory from a file on disk to the counts that are analysed.

    python -m tests.benchmarks scale [--cells 200000] [--genes 30000] [--density 0.05] [--batches 0] [--format h5ad]
        [--compression gzip] [--folder FOLDER] [--source FOLDER]
    python -m tests.benchmarks scale --experiment 10000 100000 1000000 --folder FOLDER [--epochs 4] [--killed STAGE=S …]
    python -m tests.benchmarks scale --kills 100000 --folder FOLDER [--stages STAGE …] [--epochs 4]
        [--more WORD …]

A file is simulated a block of cells at a time, loaded in a process of its own, loaded again from the cache of prepared
counts, and planned (``plan=true``); then it is deleted. Wanted: the peak stays below the analysed counts and 2 GB, the
second start and the plan within 20 seconds. ``--source`` names another checkout to load it with (an earlier version);
nothing is wanted of that one.

``--experiment`` runs the command as a user would, four replicates with ``baselines=fast``, at each number of cells, and
prints seconds and peak memory by stage with the exponent of growth; ``--kills`` ends it by SIGKILL in the middle of
each stage and runs it again. Both go on where they were stopped, from what is in the folder, which is left there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.scale_experiment import grow, kills

ROOT = Path(__file__).parents[2]
GIGABYTE = 1e9
CELLS_AT_ONCE = 5_000
N_POPULATIONS = 40
WANTED_GIGABYTES, WANTED_SECONDS = 2.0, 20.0

LOAD = """
import json, resource, sys, time
import anndata, pandas, scanpy, skmisc.loess, zarr
from scballast.config.compose import compose_config
from scballast.experiment.run import prepare_dataset
config = compose_config(sys.argv[1:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, used = time.perf_counter(), time.process_time()
dataset = prepare_dataset(config)
counts = dataset.adata.X
json.dump({
    "wall": time.perf_counter() - wall, "processor": time.process_time() - used, "before": before * 1024 / 1e9,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    "counts": (counts.data.nbytes + counts.indices.nbytes + counts.indptr.nbytes) / 1e9,
    "shape": counts.shape, "digest": dataset.digest[:12],
}, sys.stdout)
"""


def simulate(path: Path, n_cells: int, n_genes: int, density: float, n_batches: int, compression: str | None) -> int:
    """Write a file of negative binomial counts without ever holding it; return how many values it has.

    Genes have rates and dispersions of their own, and a tenth of them differ between the populations.
    """
    rng = np.random.default_rng(0)
    rates = rng.lognormal(0, 1.6, n_genes)
    population = rng.choice(N_POPULATIONS, n_cells, p=rng.dirichlet(np.full(N_POPULATIONS, 2.0)))
    effects = np.ones((N_POPULATIONS, n_genes))
    for own in effects:
        own[rng.choice(n_genes, n_genes // 10, replace=False)] = rng.lognormal(0, 1, n_genes // 10)
    low, high = 1e-6, 10.0
    for _ in range(60):  # the depth at which so many counts are above 0
        depth = np.sqrt(low * high)
        low, high = (depth, high) if (1 - np.exp(-depth * rates)).mean() < density else (low, depth)
    writer = Writer(path, n_cells, n_genes, compression)
    for start in range(0, n_cells, CELLS_AT_ONCE):
        labels = population[start : start + CELLS_AT_ONCE]
        writer.add(drawn(rng, depth * rates, effects, labels))
    obs = {"cell_type": np.array([f"type{code:02d}" for code in population], dtype=object)}
    if n_batches:
        obs["donor"] = np.array([f"donor{code:04d}" for code in rng.integers(n_batches, size=n_cells)], dtype=object)
    return writer.end(obs)


def drawn(rng: np.random.Generator, rates: Any, effects: Any, labels: Any) -> Any:
    """Return counts of cells, CSR: for each gene the number of them that have one, then which, then how many."""
    import scipy.sparse as sp

    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        share = 1 - np.exp(-rates * effects[label])
        n_found = rng.binomial(rows.size, share)
        columns = np.repeat(np.arange(rates.size, dtype=np.int32), n_found)
        # A cell may be drawn twice for a gene; its counts then add up.
        cells = rows[rng.integers(rows.size, size=columns.size)]
        counts = 1 + rng.poisson((rates * effects[label])[columns] * rng.gamma(0.5, 2.0, columns.size))
        parts.append((counts.astype(np.float32), cells.astype(np.int32), columns))
    counts, cells, columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    matrix = sp.csr_matrix((counts, (cells, columns)), shape=(labels.size, rates.size))
    matrix.sort_indices()
    return matrix


class Writer:
    """Writes an ``.h5ad`` or ``.zarr`` whose matrix, CSR, comes in blocks of cells."""

    def __init__(self, path: Path, n_cells: int, n_genes: int, compression: str | None) -> None:
        import h5py
        import zarr

        self.is_zarr = path.suffix == ".zarr"
        self.root = zarr.open_group(str(path), mode="w") if self.is_zarr else h5py.File(path, "w")
        self.shape, self.starts = (n_cells, n_genes), [0]
        self.root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        self.group = self.root.create_group("X")
        shape = list(self.shape) if self.is_zarr else np.array(self.shape)
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        for name, dtype in (("data", "f4"), ("indices", "i4")):
            if self.is_zarr:
                self.group.create_array(name, shape=(0,), dtype=dtype, chunks=(2**17,), shards=(2**24,))
            else:
                options = {} if compression is None else {"compression": compression, "compression_opts": 1}
                self.group.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(2**17,), **options)

    def add(self, matrix: Any) -> None:
        """Append the counts of some cells."""
        first = self.starts[-1]
        self.starts.extend((first + matrix.indptr[1:].astype(np.int64)).tolist())
        for name in ("data", "indices"):
            self.group[name].resize((self.starts[-1],))
            self.group[name][first:] = getattr(matrix, name)

    def end(self, obs: dict[str, Any]) -> int:
        """Write the annotation, and return the number of values."""
        import pandas as pd
        from anndata.io import write_elem

        starts = np.asarray(self.starts)
        if self.is_zarr:
            self.group.create_array("indptr", data=starts)
        else:
            self.group["indptr"] = starts
        index = pd.Index([f"cell{i}" for i in range(self.shape[0])], dtype=object)
        write_elem(self.root, "obs", pd.DataFrame(obs, index=index).astype("category"))
        names = pd.Index([f"gene{i}" for i in range(self.shape[1])], dtype=object)
        write_elem(self.root, "var", pd.DataFrame(index=names))
        if not self.is_zarr:
            self.root.close()
        return self.starts[-1]


def in_a_process(arguments: list[str], source: Path) -> tuple[float, str]:
    """Run Python with a checkout's package; return its seconds and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-3000:], flush=True)
    return time.perf_counter() - start, done.stdout


def loaded(name: str, words: list[str], source: Path) -> dict[str, Any] | None:
    """Load the file in a process of its own, and print what it took."""
    _, printed = in_a_process(["-c", LOAD, *words], source)
    if not printed:
        print(f"{name}: failed")
        return None
    found: dict[str, Any] = json.loads(printed)
    print(
        f"{name}: {found['wall']:.1f} s ({found['processor']:.1f} of the processor), {found['peak']:.2f} GB at most "
        f"({found['before']:.2f} before), of which the counts of {found['shape'][0]:,} × {found['shape'][1]:,} take "
        f"{found['counts']:.2f}; digest {found['digest']}",
        flush=True,
    )
    return found


def main() -> bool:
    """Print the figures; return whether they are as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--density", type=float, default=0.05, help="share of the counts that are not 0")
    parser.add_argument("--batches", type=int, default=0, help="donors, given as data.batch_key; 0: none")
    parser.add_argument("--format", choices=("h5ad", "zarr"), default="h5ad")
    parser.add_argument("--compression", default=None, help="of the .h5ad, such as gzip")
    parser.add_argument("--folder", default=None, help="where the file is written; default: a temporary folder")
    parser.add_argument("--source", default=None, help="another checkout to load it with; nothing is wanted of it")
    parser.add_argument("--experiment", type=int, nargs="+", metavar="CELLS", help="a whole experiment at each size")
    parser.add_argument("--kills", type=int, metavar="CELLS", help="a whole experiment killed in each stage")
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="of --kills: these alone, such as training fit")
    parser.add_argument("--killed", nargs="+", default=[], metavar="STAGE=S", help="of the last size, in turn")
    parser.add_argument("--epochs", type=int, default=4, help="of all models, at every size; 0: the default rule")
    parser.add_argument("--more", nargs="*", default=[], help="further words of the command")
    chosen = parser.parse_args()
    if chosen.experiment or chosen.kills:
        folder = Path(chosen.folder or tempfile.mkdtemp(prefix="scballast-scale-"))
        epochs = [f"train.max_epochs={chosen.epochs}"] if chosen.epochs else []

        def simulated(path: Path, n_cells: int) -> None:
            simulate(path, n_cells, chosen.genes, chosen.density, chosen.batches, chosen.compression)

        if chosen.experiment:
            killed = [(stage, float(s)) for stage, s in (word.split("=") for word in chosen.killed)]
            return grow(folder, chosen.experiment, simulated, [*epochs, *chosen.more], killed)
        return kills(folder, chosen.kills, simulated, [*epochs, *chosen.more], chosen.stages)
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="scballast-scale-") as folder:
        path, runs = Path(folder) / f"atlas.{chosen.format}", Path(folder) / "runs"
        start = time.perf_counter()
        n_values = simulate(path, chosen.cells, chosen.genes, chosen.density, chosen.batches, chosen.compression)
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        print(
            f"{chosen.cells:,} cells × {chosen.genes:,} genes, {n_values / 1e6:,.0f} million values, "
            f"{size / GIGABYTE:.1f} GB as {chosen.format}, written in {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        words = ["data=h5ad", f"data.path={path}", "data.population_key=cell_type", f"runs_dir={runs}"]
        words += ["data.batch_key=donor"] if chosen.batches else []
        if chosen.source is not None:
            return loaded("other version", words, Path(chosen.source)) is not None
        plan_before, _ = planned("plan, first", words)
        first = loaded("from the file", words, ROOT)
        second = loaded("from the cache", words, ROOT)
        plan_after, _ = planned("plan, prepared", words)
    if first is None or second is None:
        return False
    return (
        first["peak"] < first["before"] + first["counts"] + WANTED_GIGABYTES
        and second["digest"] == first["digest"]
        and max(second["wall"], plan_before, plan_after) < WANTED_SECONDS
    )


def planned(name: str, words: list[str]) -> tuple[float, str]:
    """Ask for the plan, and print it with the seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, printed = in_a_process(["-m", "scballast.commands.terminal", *words, "plan=true"], ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {seconds:.1f} s ({used:.1f} of the processor)\n{printed.rstrip()}", flush=True)
    return seconds, printed


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
