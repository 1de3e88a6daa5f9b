"""Values that Hydra reads as something else: names that look like numbers, and file names with `${…}`."""

from __future__ import annotations

import shlex

import pytest

from scballast.config.compose import as_written, compose_config
from scballast.errors import ConfigError

FILE = ("data=h5ad", "data.path=x.h5ad")


@pytest.mark.parametrize("written", ["0", "0.50", "1e3", "true", "17"])
@pytest.mark.parametrize("key", ["data.population_key", "data.batch_key", "data.sample_key"])
def test_a_column_whose_name_looks_like_a_number_is_quoted_as_the_message_says(key: str, written: str) -> None:
    others = () if key == "data.population_key" else ("data.population_key=cell_type",)
    with pytest.raises(ConfigError, match=f"^{key}: .* quoted twice, as it is written: ") as said:
        compose_config([*FILE, *others, f"{key}={written}"])
    (remedy,) = [part for part in str(said.value).split(": ") if part.startswith(f"{key}='")]
    # What a shell makes of the remedy.
    (word,) = shlex.split(remedy.removesuffix("."))
    config = compose_config([*FILE, *others, word])
    assert getattr(config.data, key.split(".")[1]) == written


def test_what_a_sweep_varies_is_quoted_as_it_was_written_too() -> None:
    words = ["data.population_key=0.50,1e3,x", "model=pca,nmf"]
    for value, written in ((0.5, "0.50"), (1000.0, "1e3")):
        said = (
            f"data.population_key: {value} is a float. As it is: as it is written: data.population_key='\"{value}\"'."
        )
        assert as_written(said, words).endswith(f"as it is written: data.population_key='\"{written}\"'.")
    assert as_written("something else", words) == "something else"


@pytest.mark.parametrize("key", ["data.path", "data.labels", "runs_dir"])
@pytest.mark.parametrize("name", ["${x}", "a/${run.id}.h5ad", "${oc.env:SCBALLAST_NO_SUCH_VARIABLE}"])
def test_dollars_in_a_path_name_the_key_and_the_remedy(key: str, name: str) -> None:
    words = [word for word in (*FILE, "data.population_key=c") if not word.startswith(f"{key}=")]
    with pytest.raises(ConfigError, match=rf"^{key}: \$\{{…\}} in a value stands for another key") as said:
        compose_config([*words, f"{key}='{name}'"])
    assert "the backslash included" in str(said.value)
    escaped = name.replace("${", r"\${")
    config = compose_config([*words, f"{key}='{escaped}'"])
    assert (config.runs_dir if key == "runs_dir" else getattr(config.data, key.split(".")[1])) == name


@pytest.mark.parametrize("value", ["d/Müller.h5ad", "a=b", "#h", "é", "{a}", "d/my (1) file, two.h5ad", "a'b"])
def test_signs_that_have_a_meaning_are_quoted_as_the_message_says(value: str) -> None:
    with pytest.raises(ConfigError, match="signs of its value have a meaning here") as said:
        compose_config([*FILE, f"data.population_key={value}"])
    (word,) = shlex.split(str(said.value).partition("quote such a value twice: ")[2])
    assert compose_config([*FILE, word]).data.population_key == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["data.population_key=x,y"],
            "data.population_key: x,y is several values for one experiment. Type one of them, data.population_key=x, "
            "or, where a name holds the comma, data.population_key='\"x,y\"'. With -m each is tried in a sweep.",
        ),
        (
            ["data.population_key=c", "methods=wilcoxon, t_test"],
            "methods: wilcoxon, t_test is several values for one experiment. Type one of them, methods=wilcoxon, a "
            "list, methods=[wilcoxon,t_test], or, where a name holds the comma, methods='\"wilcoxon, t_test\"'. With "
            "-m each is tried in a sweep.",
        ),
        (
            ["data.population_key=c", "model.n_latent=range(2,5)"],
            "model.n_latent: range(2,5) is several values for one experiment. Type one of them, model.n_latent=VALUE. "
            "With -m each is tried in a sweep.",
        ),
        (
            ["data.population_key=[x]"],
            "data.population_key: ['x'] is a list, and one value is needed: data.population_key=x.",
        ),
        (
            ["data.population_key=[a b]"],
            "data.population_key: ['a b'] is a list, and one value is needed: data.population_key=VALUE.",
        ),
        (["data.batch_key=[]"], "data.batch_key: [] is a list, and one value is needed: data.batch_key=VALUE."),
        (
            ["data.population_key=c", "association.keys=donor"],
            "association.keys: 'donor' is one value, and a list is needed: association.keys=[donor].",
        ),
        (
            ["data.population_key="],
            "data.population_key: it is empty. Type the name of the obs column, data.population_key=NAME, or leave the "
            "key out.",
        ),
        (
            ["data.population_key=null"],
            "data.population_key: missing. Name the obs column that holds the populations (cell types): "
            "data.population_key=COLUMN.",
        ),
        (
            ["dta.layer=3", "modl.n_latent=3", "device=cpu"],
            "command line: 'dta.layer' is not known. Did you mean 'data.layer'? 'modl.n_latent' is not known. Did you "
            "mean 'model.n_latent'? `scballast --cfg job` prints every key, `scballast --help` the groups and their "
            "options.",
        ),
    ],
    ids=lambda part: part[-1] if isinstance(part, list) else "",
)
def test_the_message_says_what_to_type(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config([*FILE, *words])
    assert str(caught.value) == said


def test_what_the_message_says_to_type_is_understood() -> None:
    assert compose_config([*FILE, "data.population_key='\"x,y\"'".replace("'", "")]).data.population_key == "x,y"
    config = compose_config([*FILE, "data.population_key=c", "association.keys=[donor]", "methods=[wilcoxon,t_test]"])
    assert (config.association.keys, config.methods) == (("donor",), ("wilcoxon", "t_test"))
