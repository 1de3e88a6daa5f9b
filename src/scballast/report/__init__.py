"""Figures and HTML from a result folder's stored tables; nothing is trained, scored or fitted here."""
