"""Hydra's door to :mod:`scballast.sweep`."""
