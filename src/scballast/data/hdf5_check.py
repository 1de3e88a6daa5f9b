"""Read the structure of an HDF5 file, in a process of its own: on some damaged files the HDF5 library crashes.

Run as ``python hdf5_check.py FILE``. The exit status is 0 whenever the process survives; errors that h5py
raises are met again, and explained, when the file is read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import h5py


def walk(element: h5py.Group | h5py.Dataset) -> None:
    """Read every name, attribute and text below; numbers are left alone, whatever their size.

    What h5py refuses is passed over one by one: behind an error may lie what crashes.
    """
    for attribute in attempted(lambda: list(element.attrs)) or ():
        attempted(partial(element.attrs.__getitem__, attribute))
    if isinstance(element, h5py.Group):
        for name in attempted(lambda: list(element)) or ():
            # A link may lead back up; only hard links to what lies below are followed.
            if attempted(partial(element.get, name, getlink=True)).__class__ is h5py.HardLink:
                attempted(partial(descend, element, name))
    elif element.dtype.kind in "OSV":
        attempted(lambda: element[()])


def descend(group: h5py.Group, name: str) -> None:
    """Walk one member of a group, unless it has been walked."""
    member = group[name]
    place = h5py.h5o.get_info(member.id).addr
    if place not in seen:
        seen.add(place)
        walk(member)


def attempted(read: Callable[[], Any]) -> Any:
    """Return what is read, or None for an error that h5py raises."""
    try:
        return read()
    except Exception:
        return None


seen: set[int] = set()

if __name__ == "__main__":
    if (file := attempted(partial(h5py.File, sys.argv[1], "r"))) is not None:
        attempted(partial(walk, file))
