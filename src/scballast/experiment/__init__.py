"""One experiment: training, scoring, fit, the latent space, metrics."""
