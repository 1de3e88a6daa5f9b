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
