"""Held-out fit of a scvi-tools module: importance-weighted marginal likelihood and evidence lower bound."""

from __future__ import annotations

import math
from typing import Any

from scballast.engine import scvi_compat
from scballast.engine.interface import HeldoutFit


def importance_weighted_fit(module: Any, tensors: Any, n_mc_samples: int) -> HeldoutFit:
    r"""Estimate ``-log p(x)`` and the negative ELBO of each cell of a minibatch.

    .. math:: \log p(x) \approx \log \frac1S \sum_s \frac{p(x|z_s,\ell_s)\,p(z_s)\,p(\ell_s)}{q(z_s|x)\,q(\ell_s|x)}

    scvi-tools' own ``marginal_ll`` evaluates prior and posterior of ``z`` after the softmax under
    ``latent_distribution="ln"``, where they are densities of ``z`` before it; here they are taken before it.

    Parameters
    ----------
    module
        A trained ``scvi.module.VAE`` or ``LDVAE`` in evaluation mode.
    tensors
        A minibatch from the model's data loader.
    n_mc_samples
        Number S of draws; both figures use the same draws.

    References
    ----------
    Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders.
    """
    import torch
    from scvi import REGISTRY_KEYS
    from torch.distributions import Normal, kl_divergence

    with torch.inference_mode():
        counts = tensors[REGISTRY_KEYS.X_KEY].to(module.device)
        batch_index = tensors[REGISTRY_KEYS.BATCH_KEY].to(module.device)
        inferred = scvi_compat.encoded(module, {k: v.to(module.device) for k, v in tensors.items()})
        q_z, q_l = inferred["qz"], inferred["ql"]
        prior_z = Normal(torch.zeros_like(q_z.loc), torch.ones_like(q_z.scale))
        divergence = kl_divergence(q_z, prior_z).sum(-1)
        prior_l = None
        if q_l is not None:
            prior_l = scvi_compat.library_prior(module, batch_index)
            divergence = divergence + kl_divergence(q_l, prior_l).sum(-1)
        log_weights, log_likelihoods = [], []
        for _ in range(n_mc_samples):
            z = q_z.sample()
            library = inferred["library"] if q_l is None else q_l.sample()
            generated = module.generative(
                z=module.z_encoder.z_transformation(z), library=library, batch_index=batch_index
            )
            log_likelihood = generated["px"].log_prob(counts).sum(-1)
            weight = log_likelihood + prior_z.log_prob(z).sum(-1) - q_z.log_prob(z).sum(-1)
            if prior_l is not None:
                weight = weight + (prior_l.log_prob(library) - q_l.log_prob(library)).sum(-1)
            log_weights.append(weight)
            log_likelihoods.append(log_likelihood)
        nll = math.log(n_mc_samples) - torch.logsumexp(torch.stack(log_weights), dim=0)
        elbo = divergence - torch.stack(log_likelihoods).mean(0)
    return HeldoutFit(nll=nll.double().cpu().numpy(), elbo=elbo.double().cpu().numpy())
