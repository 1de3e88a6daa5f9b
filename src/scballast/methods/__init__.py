"""Ways from a model or from cells to a score per population and gene."""
