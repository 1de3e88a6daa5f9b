"""Sweeps: grids and Optuna studies that survive kills, are shared by many workers, and are one tree in MLflow."""
