"""Agreement of gene rankings and of latent spaces: arrays in, numbers out; nothing else is imported."""
