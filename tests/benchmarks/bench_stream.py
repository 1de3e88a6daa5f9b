"""Training from disk: what the windowed order does to the models, and cells per second beside other loaders.

    python -m tests.benchmarks.bench_stream [order] [disk] [--cells 1000000] [--genes 2000] [--members 4]
        [--folder FOLDER] [--python PYTHON]

``order``: held-out ELBO and Φ of ``contrast`` of ten seeds trained in memory and from small windows, on cells as they
come and on the same cells sorted by population; paired by seed. Wanted: no z above 4, as for the engine beside
scvi-tools, but for windows in the file's own order, which show what the random order on disk is for.

``disk``: cells simulated to disk (8 GB for a billion counts, twice, deleted in the end unless ``--keep``), one epoch of
several members, and the bare reading; ``--python`` names an interpreter with annbatch and scvi-tools, whose loaders
then read the same cells. Wanted: the peak of memory stays below a quarter of the counts, or 2 GB.

Each figure is kept in the folder as it comes: an interrupted benchmark goes on.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import argparse
import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
GIGABYTE = 1e9
N_SEEDS, TOP, MOST_Z = 10, 50, 4.0
# Cells sorted by population; the cells of a block and of a window, and whether they lie in a random order on disk.
ORDERS: dict[str, tuple[bool, tuple[int, int, bool] | None]] = {
    "in memory": (False, None),
    "windows of 256": (False, (8, 256, True)),
    "sorted, windows of 256": (True, (8, 256, True)),
    "in the file's order, windows of 256": (False, (8, 256, False)),
    "sorted, in the file's order, windows of 256": (True, (8, 256, False)),
}


class Kept:
    """Figures by name in a file, one a line; those that are there are not made again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stream.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._known = dict(json.loads(line) for line in lines)

    def has(self, name: str) -> bool:
        return name in self._known

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._known:
            self._known[name] = make()
            with self._path.open("a") as file:
                file.write(json.dumps([name, self._known[name]]) + "\n")
        return self._known[name]


def trained(adata: Any, name: str, cells: Any, heldout: Any, epochs: int, how: str) -> dict[str, Any]:
    """Return the held-out ELBO loss of each seed, and the genes that its contrast selects."""
    from scballast.engine import Member, ensemble, windows

    is_sorted, sizes = ORDERS[how]
    types = adata.obs["cell_type"].astype("category")
    inside, population = (types == name).to_numpy(), types.cat.codes.to_numpy()
    order = np.argsort(population, kind="stable") if is_sorted else np.arange(adata.n_obs)
    place = np.argsort(order)
    inside = inside[order]
    if sizes is not None:
        block, window, shuffled = sizes
        ensemble.Windows = partial(  # type: ignore[misc]
            windows.Windows, block_cells=block, window_cells=window, shuffled=shuffled
        )
    members = [Member(place[cells], seed) for seed in range(N_SEEDS)]
    data = "memory" if sizes is None else "stream"
    fitted = ensemble.fit_ensemble(adata[order].copy(), members, {}, {"max_epochs": epochs}, data=data)
    elbo, selected = [], []
    for member in range(N_SEEDS):
        elbo.append(float(fitted.heldout_fit(member, place[heldout], 10).elbo.mean()))
        z = fitted.posterior_means(member, np.arange(adata.n_obs))
        scores = fitted.loadings(member) @ (z[inside].mean(0) - z[~inside].mean(0))
        selected.append(np.argsort(-scores)[:TOP].tolist())
    return {"elbo": elbo, "selected": selected}


def bench_order(kept: Kept) -> bool:
    """Print the models of each order beside those in memory; returns whether they differ by noise only."""
    from tests.benchmarks.bench_engine import kang, pbmc3k
    from tests.helpers.agreement_oracles import nogueira_stability

    from scballast.agreement.stability import jackknife_interval, pairwise_kuncheva

    alike = True
    for name, load, population, epochs in (("kang", kang, "CD14+ Monocytes", 100), ("pbmc3k", pbmc3k, "CD14 Mono", 60)):
        adata = load()
        shuffled = np.random.default_rng(0).permutation(adata.n_obs)
        cells, heldout = shuffled[: adata.n_obs // 2], shuffled[adata.n_obs // 2 :]
        found = {}
        for how in ORDERS:
            make = partial(trained, adata, population, cells, heldout, epochs, how)
            found[how] = kept.get(f"{name}: {how}", make)
            elbo, reference = (np.array(found[which]["elbo"]) for which in (how, "in memory"))
            stability, error = [], []
            for which in (how, "in memory"):
                mask = np.zeros((N_SEEDS, adata.n_vars), dtype=bool)
                np.put_along_axis(mask, np.array(found[which]["selected"]), True, axis=1)
                stability.append(float(nogueira_stability(mask)))
                error.append(jackknife_interval(pairwise_kuncheva(mask)).standard_error)
            difference = elbo - reference
            z_elbo = 0.0 if how == "in memory" else difference.mean() / (difference.std(ddof=1) / np.sqrt(N_SEEDS))
            z_stability = (stability[0] - stability[1]) / np.hypot(*error)
            print(
                f"{name}, {how}: held-out ELBO loss {elbo.mean():.2f} ± {elbo.std(ddof=1):.2f}, z = {z_elbo:.1f}; "
                f"Φ of contrast {stability[0]:.3f}, z = {z_stability:.1f}",
                flush=True,
            )
            if "file's order" not in how:
                alike = alike and max(abs(z_elbo), abs(z_stability)) < MOST_Z
    return alike


def simulate(folder: Path, n_cells: int, n_genes: int) -> None:
    """Write counts as the cache of prepared counts has them, and as sharded zarr; one of 25 is not 0."""
    import zarr

    per_cell, at_once, rng = n_genes // 25, 20_000, np.random.default_rng(0)
    starts = np.arange(n_cells + 1, dtype=np.int64) * per_cell
    np.save(folder / "indptr.npy", starts)
    root = zarr.open_group(str(folder / "counts.zarr"), mode="w")
    root.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n_cells, n_genes]})
    root.create_array("indptr", data=starts)
    arrays = {}
    for name, dtype in (("data", np.float32), ("indices", np.int32)):
        size = {"shape": (n_cells * per_cell,), "dtype": dtype}
        stored = root.create_array(name, **size, chunks=(2**17,), shards=(2**24,))
        arrays[name] = (np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", **size), stored)
    shard, waiting = 2**24, {name: [] for name in arrays}  # a shard is written whole
    for start in range(0, n_cells, at_once):
        n = min(at_once, n_cells - start)
        genes = np.arange(per_cell, dtype=np.int32) * 25 + rng.integers(0, 25, (n, per_cell), dtype=np.int32)
        made = {"indices": genes.ravel(), "data": rng.geometric(0.6, n * per_cell).astype(np.float32)}
        for name, values in made.items():
            mapped, stored = arrays[name]
            mapped[start * per_cell : start * per_cell + len(values)] = values
            waiting[name].append(values)
            end, size = start * per_cell + len(values), sum(map(len, waiting[name]))
            if size >= 4 * shard or end == len(mapped):
                whole = np.concatenate(waiting[name])
                kept = size if end == len(mapped) else (end // shard) * shard - (end - size)
                stored[end - size : end - size + kept] = whole[:kept]
                waiting[name] = [whole[kept:]]


def opened(folder: Path) -> Any:
    """Return the simulated cells, their counts mapped."""
    import scipy.sparse as sp
    from anndata import AnnData

    arrays = [np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("data", "indices")]
    starts = np.load(folder / "indptr.npy")
    starts = starts.astype(np.int32) if starts[-1] < 2**31 else starts
    n_genes = int(arrays[1][:1_000_000].max()) + 1
    return AnnData(sp.csr_matrix((*arrays, starts), shape=(len(starts) - 1, -(-n_genes // 25) * 25), copy=False))


def memory() -> float:
    """Return the largest memory of this process so far, in GB; what getrusage says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / GIGABYTE


def epoch(folder: Path, n_members: int, share: float, data: str) -> dict[str, Any]:
    """Train for one epoch: half of the members on a share of all cells, half on a quarter of it, as populations are."""
    from scballast.engine import Member, fit_ensemble
    from scballast.engine.native import load_library

    load_library("float")
    adata, before = opened(folder), memory()
    members = []
    for i in range(n_members):
        draw = np.random.default_rng(i).random(adata.n_obs)
        members.append(Member(np.flatnonzero(draw < (share if i < (n_members + 1) // 2 else share / 4)), i))
    wall, used = time.perf_counter(), time.process_time()
    fit_ensemble(adata, members, {"n_latent": 20}, {"max_epochs": 1, "train_size": 0.9}, device="cpu", data=data)
    return {
        "cells": adata.n_obs,
        "trained": sum(int(np.ceil(0.9 * len(member.cells))) for member in members),
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - used,
        "before": before,
        "peak": memory(),
    }


def reading(folder: Path) -> dict[str, Any]:
    """Read all cells once, in the windows of an epoch, and add up each cell's total."""
    from scballast.engine.kernels import KernelCounts
    from scballast.engine.shuffled_copy import ShuffledRows
    from scballast.engine.stored_counts import stored_counts
    from scballast.engine.windows import Windows

    counts = stored_counts(opened(folder), None, None, None)
    windows = Windows(counts.n_cells)
    wall, used = time.perf_counter(), time.process_time()
    rows = ShuffledRows(counts, windows)
    copied = time.perf_counter() - wall
    wall, used, own = time.perf_counter(), time.process_time(), windows.of_blocks(0)
    for window in range(windows.n_windows):
        blocks = np.flatnonzero(own == window)
        places = (blocks[:, None] * windows.block_cells + np.arange(windows.block_cells)).ravel()
        KernelCounts(rows.read(windows.cell_at[places[places < counts.n_cells]], gap=0).counts)
    return {
        "copied": copied,
        "cells": counts.n_cells,
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - used,
        "peak": memory(),
    }


LOADERS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import anndata, numpy as np, scipy.sparse as sp, zarr
folder, which, limit = sys.argv[1], sys.argv[2], float(sys.argv[3])
if which.startswith("annbatch"):
    from annbatch import Loader
    chunk, n_chunks = (int(word) for word in which.split()[1:])
    loader = Loader(batch_size=128, chunk_size=chunk, preload_nchunks=n_chunks, shuffle=True, preload_to_gpu=False)
    loader.add_dataset(anndata.io.sparse_dataset(zarr.open_group(folder + "/counts.zarr", mode="r")))
    batches = (batch["X"] for batch in loader)
else:
    import scvi
    data, indices = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("data", "indices"))
    starts = np.load(f"{folder}/indptr.npy").astype(np.int32)
    matrix = sp.csr_matrix((np.asarray(data), np.asarray(indices), starts), shape=(len(starts) - 1, int(sys.argv[4])))
    adata = anndata.AnnData(matrix)
    manager = scvi.data.AnnDataManager([scvi.data.fields.LayerField("X", None, is_count_data=False)])
    manager.register_fields(adata)
    batches = (batch["X"] for batch in scvi.dataloaders.AnnDataLoader(manager, shuffle=True, batch_size=128))
next(batches)
n_cells, wall, used = 0, time.perf_counter(), time.process_time()
for batch in batches:
    n_cells += batch.shape[0]
    if time.perf_counter() - wall > limit:
        break
json.dump({
    "cells": n_cells, "wall": time.perf_counter() - wall, "processor": time.process_time() - used,
    "peak": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9,
}, sys.stdout)
"""
OTHERS = ("annbatch 512 32", "annbatch 64 2048", "scvi AnnDataLoader")
LIMIT_SECONDS = 40.0


def in_a_process(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        print(done.stderr[-3000:], flush=True)
        raise RuntimeError(" ".join(command[:4]))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bench_disk(kept: Kept, chosen: argparse.Namespace) -> bool:
    """Print one epoch of several members, and the bare reading, beside other loaders."""
    folder: Path = chosen.folder / f"cells{chosen.cells}"
    size = f"{chosen.cells:,} × {chosen.genes:,}"
    here = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_stream", "--folder", str(folder)]
    name = f"{size}, {chosen.members} members of {chosen.share:g} and {chosen.share / 4:g} of the cells"
    members = ["--members", str(chosen.members), "--share", str(chosen.share)]
    wanted = {
        f"{size}, bare reading": [*here, "--child", "reading"],
        f"{name}, stream": [*here, "--child", "stream", *members],
        f"{name}, memory": [*here, "--child", "memory", *members],
    }
    if chosen.stream_only:
        del wanted[f"{name}, memory"]
    if chosen.python is not None:
        arguments = [str(LIMIT_SECONDS), str(chosen.genes)]
        for which in OTHERS:
            wanted[f"{size}, {which}"] = [chosen.python, "-c", LOADERS, str(folder), which, *arguments]
    if not all(kept.has(name) for name in wanted) and not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        start = time.perf_counter()
        simulate(folder, chosen.cells, chosen.genes)
        (folder / "done").touch()
        on_disk = sum(file.stat().st_size for file in folder.glob("*.npy")) / GIGABYTE
        print(f"{size}: {on_disk:.1f} GB as .npy, written in {time.perf_counter() - start:.0f} s", flush=True)
    small = True
    for name, command in wanted.items():
        found = kept.get(name, partial(in_a_process, command))
        rate = found["cells"] / found["wall"]
        line = f"{name}: {rate:,.0f} cells/s ({found['cells'] / found['processor']:,.0f} per processor second)"
        if "trained" in found:
            together = found["trained"] / found["wall"], found["trained"] / found["processor"]
            line += f", of members together {together[0]:,.0f} ({together[1]:,.0f})"
        if "copied" in found:
            line += f", the copy in random order before it {found['copied']:.0f} s"
        print(f"{line}; {found['wall']:.0f} s, peak {found['peak']:.2f} GB", flush=True)
        if name.endswith("stream"):
            counts = chosen.cells * (chosen.genes // 25) * 8 / GIGABYTE
            small = found["peak"] - found["before"] < max(2.0, counts / 4)
    if not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return small


def main() -> bool:
    """Run the named cases, or both; returns whether all figures are as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["order", "disk"])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.5, help="of the cells, in each of the larger members")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_stream"))
    parser.add_argument("--python", default=None, help="an interpreter with annbatch and scvi-tools")
    parser.add_argument("--keep", action="store_true", help="keep the simulated cells")
    parser.add_argument("--stream-only", action="store_true", help="do not train in memory beside it")
    parser.add_argument("--child", choices=("reading", "stream", "memory"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.child is not None:
        found = (
            reading(chosen.folder)
            if chosen.child == "reading"
            else epoch(chosen.folder, chosen.members, chosen.share, chosen.child)
        )
        json.dump(found, sys.stdout)
        return True
    chosen.folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(chosen.folder)
    cases = {"order": partial(bench_order, kept), "disk": partial(bench_disk, kept, chosen)}
    return all([cases[name]() for name in chosen.cases])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
