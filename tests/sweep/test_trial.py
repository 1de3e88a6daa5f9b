"""One trial: what is made ready for it, and the process it runs in."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scballast.config.compose import compose_config
from scballast.sweep import trial
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.messages import DrawRequest


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


def test_a_process_that_was_ended_starts_no_more() -> None:
    process = TrialProcess()
    process.end()
    with pytest.raises(ProcessDiedError, match="it was ended"):
        process.call(DrawRequest("nowhere"))
    process.close()


def test_a_process_is_ended_under_the_thread_that_waits_for_it() -> None:
    process = TrialProcess()
    process.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.receive)
        time.sleep(0.2)
        process.end()
        assert isinstance(waiting.exception(20), ProcessDiedError)
    process.close()
