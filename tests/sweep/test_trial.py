"""One trial: what is made ready for it."""

from __future__ import annotations

import pytest

from scballast.config.compose import compose_config
from scballast.sweep import trial


@pytest.mark.parametrize(
    ("words", "compiles"),
    [
        (("model=ldvae", "baselines=fast"), True),
        (("model=pca", "baselines=fast"), False),
        (("model=pca", "baselines.methods=[wilcoxon,scvi_de]"), True),
        (("model=ldvae", "baselines=fast", "train.engine=scvi"), False),
        (("model=pca", "model.name=unknown", "baselines.methods=[wilcoxon,unknown]"), False),
    ],
)
def test_kernels_are_compiled_where_some_model_needs_them(
    words: tuple[str, ...], compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loading(Exception):
        """Raised in place of reading data, which comes next."""

    def load(_: object) -> None:
        raise Loading

    begun: list[bool] = []
    monkeypatch.setattr(trial, "precompile", lambda: begun.append(True))
    monkeypatch.setattr(trial, "prepare_dataset", load)
    with pytest.raises(Loading):
        trial.run_trial(compose_config(words))
    assert bool(begun) == compiles
