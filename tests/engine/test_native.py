"""The compiled kernels on other vector widths than this processor's, and compiled in the background."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.engine_examples import gradients, plan_one, small_adata

from scballast.engine import native
from scballast.engine.kernels import KernelCounts, MemberKernel
from scballast.engine.packing import empty_packed
from scballast.engine.to_scvi import initial_state

X86 = platform.machine().lower() in ("x86_64", "amd64")
MODEL = {"n_hidden": 85, "n_latent": 7, "gene_likelihood": "zinb", "n_layers": 2}  # pieces of rows, and what is left


@functools.cache
def step(march: str) -> tuple[Any, ...]:
    """Loss, gradient, running statistics and evaluation of one minibatch with kernels for this target."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCBALLAST_MARCH", march)
        native.load_library.cache_clear()
        try:
            plan, counts = plan_one(small_adata(n_genes=61), MODEL, batch_key="batch")
            packed = empty_packed(plan, np.float64)
            packed.load(initial_state(plan))
            kernel = MemberKernel(plan, KernelCounts(counts), np.float64)
            rng, cells = np.random.default_rng(0), plan.train_cells[:35]
            gradient, sums = gradients(kernel, plan, packed, cells, 0.3)
            evaluated = kernel.evaluate(packed, cells, rng.normal(size=(9, 35, 7)), rng.normal(size=(9, 35)))
        finally:
            native.load_library.cache_clear()
    return np.array([sums.loss]), gradient, packed.running, evaluated.reconstruction


@pytest.mark.skipif(not X86, reason="names of x86 targets")
@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3"])
def test_every_vector_width_gives_the_same(march: str) -> None:
    if march == "x86-64-v3" and "avx2" not in native._processor():
        pytest.skip("this processor has no AVX2")
    for here, there in zip(step("native"), step(march), strict=True):
        assert np.abs(here).max() > 0
        np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9 * np.abs(here).max())


def test_a_run_that_needs_the_kernels_waits_for_those_under_way(tmp_path: Path) -> None:
    """Precompiled and asked for at once: compiled once, and there."""
    compiler = tmp_path / "compiler"
    calls = tmp_path / "calls"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo called >> {calls} ;; esac\nexec g++ "$@" -O0\n'
    )
    compiler.chmod(0o755)
    code = "from scballast.engine.native import load_library, precompile; precompile(); print(load_library('float'))"
    environment = {**os.environ, "SCBALLAST_CACHE_DIR": str(tmp_path / "cache"), "CXX": str(compiler)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "cache") in done.stdout
    assert calls.read_text() == "called\n"
