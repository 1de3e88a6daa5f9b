"""Seeds from identity, never from position."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np

from scballast.arrays import IntArray


class Stream(IntEnum):
    """What a seed is for; the values are part of every result, so they never change."""

    CELLS = 0
    GLOBAL_MODEL = 1
    CONDITIONED_MODEL = 2
    PER_POPULATION_MODEL = 3
    SCVI_MODEL = 4
    CONTROLS = 5
    DIFFERENTIAL_EXPRESSION = 7
    HELDOUT = 8
    ASSOCIATION = 9
    SIMULATION = 10
    SWEEP = 11
    PROGRAMS = 14


def sequence_for(seed: int, stream: Stream, *identity: int | str) -> np.random.SeedSequence:
    """Return the seed sequence of one thing in one stream.

    Parameters
    ----------
    seed
        The experiment's seed, >= 0.
    stream
        What the numbers are for.
    identity
        What the numbers belong to: a replicate's number, a population's name. Adding a replicate or a
        population leaves the seeds of all others as they are.
    """
    words: list[int] = [int(stream)]
    for part in identity:
        if isinstance(part, str):
            digest = hashlib.blake2b(part.encode(), digest_size=8).digest()
            words.extend(int(word) for word in np.frombuffer(digest, dtype="<u4"))
        else:
            words.append(int(part))
    return np.random.SeedSequence(seed, spawn_key=tuple(words))


def generator_for(seed: int, stream: Stream, *identity: int | str) -> np.random.Generator:
    """Return a generator over :func:`sequence_for`."""
    return np.random.default_rng(sequence_for(seed, stream, *identity))


def integer_for(seed: int, stream: Stream, *identity: int | str) -> int:
    """Return a 31-bit integer seed for libraries that take one.

    Examples
    --------
    >>> integer_for(0, Stream.GLOBAL_MODEL, 3) == integer_for(0, Stream.GLOBAL_MODEL, 3)
    True
    """
    return int(sequence_for(seed, stream, *identity).generate_state(1)[0] >> 1)


def at_most(items: IntArray, most: int, generator: np.random.Generator) -> IntArray:
    """Return numbers, such as of cells, or so many of them drawn at random, in order."""
    return items if items.size <= most else np.sort(generator.choice(items, most, replace=False))
