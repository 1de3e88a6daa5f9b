"""Compile and load the CPU kernels in ``native/``: once per processor, compiler and version of the source."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from importlib import resources
from pathlib import Path

from scballast.engine.cache_folders import temporary_folder
from scballast.errors import ConfigError

logger = logging.getLogger(__name__)

# Not -ffast-math: the loss must still be able to become NaN, or a member's failure would go unseen.
# Vectors are arguments of inlined functions only, which -Wno-psabi says.
_FLAGS = (
    "-std=c++17 -O3 -fPIC -shared -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math "
    "-freciprocal-math -ffp-contract=fast -fopenmp-simd -fvisibility=hidden -Wno-psabi"
).split()
_COMPILE_SECONDS = 300
_LOCK = threading.Lock()  # who waits for a compilation under way then finds its result


class NoCompilerError(ConfigError):
    """There is no working C++ compiler on this machine."""


@functools.cache
def load_library(scalar: str) -> ctypes.CDLL:
    """Return the kernels for ``"float"`` or ``"double"``, compiled on first use and kept in the user's cache.

    The cache folder is ``SCBALLAST_CACHE_DIR``, or ``scballast`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    ``SCBALLAST_MARCH`` names another target than this processor, as the compiler spells it: ``x86-64-v3`` shows
    on any machine how the kernels do with AVX2.

    Raises
    ------
    NoCompilerError
        No C++ compiler is installed, or it refuses the source.
    """
    with _LOCK:
        return ctypes.CDLL(str(_compiled(scalar)))


def precompile() -> None:
    """Start compiling the kernels for training in the background, so that they are there when data are loaded.

    Failures are left to :func:`load_library`, which meets them again where they matter.
    """

    def work() -> None:
        with contextlib.suppress(NoCompilerError, OSError):
            load_library("float")

    threading.Thread(target=work, name="compile kernels", daemon=True).start()


def _compiled(scalar: str) -> Path:
    """Return the path of the compiled kernels, made if they are not there."""
    compiler = _compiler()
    folder = resources.files("scballast.engine").joinpath("native")
    with resources.as_file(folder) as sources:
        flags = [*_FLAGS, *_machine_flags(), f"-DSCALAR={scalar}"]
        digest = hashlib.sha256()
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
        for part in (*flags, version, platform.machine(), _processor()):
            digest.update(part.encode() + b"\0")
        for source in sorted(sources.glob("*.?pp")):
            digest.update(source.read_bytes())
        target = _cache_folder() / f"ldvae-{scalar}-{digest.hexdigest()[:24]}.so"
        if not target.exists():
            _compile(compiler, flags, sources / "ldvae.cpp", target)
    return target


def _compile(compiler: str, flags: list[str], source: Path, target: Path) -> None:
    logger.info("compiling the CPU kernels (once per machine) into %s", target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may compile at once: each writes its own file, the rename is atomic.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        command = [compiler, *flags, str(source), "-o", str(built)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"{compiler} could not be run: {error}."
            raise NoCompilerError(message) from error
        if done.returncode != 0:
            message = f"{compiler} could not compile the CPU kernels: {done.stderr.strip()[:400]}"
            raise NoCompilerError(message)
        built.replace(target)


def _compiler() -> str:
    named = os.environ.get("CXX")
    for candidate in (named,) if named else ("g++", "c++", "clang++"):
        compiler = shutil.which(candidate)
        if compiler:
            return compiler
    message = f"no C++ compiler found ({named or 'g++, c++, clang++'}). Install one, or set CXX."
    raise NoCompilerError(message)


def _machine_flags() -> tuple[str, ...]:
    target = os.environ.get("SCBALLAST_MARCH", "native")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return (f"-mcpu={target}",)
    wide = target == "x86-64-v4" or (target == "native" and "avx512f" in _processor())
    return (f"-march={target}", "-mprefer-vector-width=512") if wide else (f"-march={target}",)


@functools.cache
def _processor() -> str:
    """Tell processors apart for ``-march=native``: a cache folder may be shared between machines."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        keys = ("flags", "Features", "model name")
        return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in keys)
    return platform.processor()


@functools.cache
def _cache_folder() -> Path:
    """Return a folder for compiled kernels that can be written to: the user's cache, else a temporary one."""
    wanted = _wanted_folder()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wanted):
            return wanted
    except OSError as error:
        instead = temporary_folder()
        logger.warning("%s cannot be written (%s); kernels are compiled into %s.", wanted, error.strerror, instead)
        return instead


def _wanted_folder() -> Path:
    named = os.environ.get("SCBALLAST_CACHE_DIR")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scballast"
    except RuntimeError:  # a user without a home
        return temporary_folder()
