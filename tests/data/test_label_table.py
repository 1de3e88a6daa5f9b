"""Labels in a table beside the counts: they join the cells by name, and every oddity is said."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.helpers.data_examples import N_CELLS, file_config, matrix_folder, written

from scballast.config.schema import DataConfig, build_config, config_hash
from scballast.data import Dataset, load_dataset
from scballast.errors import DataError

NAMES = [f"cell{i}" for i in range(N_CELLS)]
TYPES = ["B cell, naïve", "T"] * (N_CELLS // 2)
LABELS = {"type": TYPES, "lane": ["01", "02", "02"] * (N_CELLS // 3)}


def table(order: list[str] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(LABELS, index=pd.Index(NAMES, name="barcode"))
    return frame if order is None else frame.reindex(order)


def load(path: Path, labels: Path, **settings: object) -> Dataset:
    return load_dataset(file_config(path, labels=str(labels), **{"population_key": "type", **settings}))


def as_csv(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path)


def as_tsv(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path, sep="\t")


def with_bom_and_crlf(path: Path, frame: pd.DataFrame) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + frame.to_csv(lineterminator="\r\n").encode())


def as_r_writes(path: Path, frame: pd.DataFrame) -> None:
    rows = [f'"{name}"\t"{kind}"\t"{lane}"' for name, (kind, lane) in zip(frame.index, frame.to_numpy(), strict=True)]
    path.write_text("\n".join(['"type"\t"lane"', *rows]) + "\n", encoding="utf-8")


def compressed(path: Path, frame: pd.DataFrame) -> None:
    path.write_bytes(gzip.compress(frame.to_csv().encode()))


def with_semicolons(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path, sep=";")


def as_r_writes_by_default(path: Path, frame: pd.DataFrame) -> None:
    rows = [f'"{name}" "{kind}" "{lane}"' for name, (kind, lane) in zip(frame.index, frame.to_numpy(), strict=True)]
    path.write_text("\n".join(['"type" "lane"', *rows]) + "\n", encoding="utf-8")


def as_excel_says(path: Path, frame: pd.DataFrame) -> None:
    path.write_text("sep=;\r\n" + frame.to_csv(sep=";", lineterminator="\r\n"), encoding="utf-8", newline="")


def below_comments(path: Path, frame: pd.DataFrame) -> None:
    path.write_text("# made by hand\n\n#2024\n" + frame.to_csv(), encoding="utf-8")


def with_columns_that_are_empty(path: Path, frame: pd.DataFrame) -> None:
    path.write_text("".join(f"{line},,\n" for line in frame.to_csv().splitlines()), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("labels.csv", as_csv),
        ("labels.txt", as_r_writes_by_default),
        ("labels.csv", as_excel_says),
        ("labels.csv", below_comments),
        ("labels.csv", with_columns_that_are_empty),
        ("labels.csv", compressed),
        ("labels.tsv", as_tsv),
        ("labels.txt", as_tsv),
        ("labels.csv", with_bom_and_crlf),
        ("labels.txt", as_r_writes),
        ("labels.csv.gz", compressed),
        ("labels.csv", with_semicolons),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_every_way_of_writing_the_table_gives_the_same_data(
    name: str, write: Callable[[Path, pd.DataFrame], None], tmp_path: Path
) -> None:
    in_file = written(tmp_path, lambda adata: setattr(adata, "obs", adata.obs.assign(type=TYPES, lane=LABELS["lane"])))
    expected = load_dataset(file_config(in_file, population_key="type", batch_key="lane"))
    order = [NAMES[i] for i in np.random.default_rng(0).permutation(N_CELLS)]
    write(tmp_path / name, table(order))
    plain = written(tmp_path)
    found = load(plain, tmp_path / name, batch_key="lane")
    assert found.digest == expected.digest
    assert found.labels == ("B cell, naïve", "T")
    assert found.adata.obs["lane"].tolist() == LABELS["lane"]
    assert found.warnings == expected.warnings == ()


def test_one_column_as_r_writes_it_by_default_is_read(tmp_path: Path) -> None:
    rows = [f'"{name}" "{kind}"' for name, kind in zip(NAMES, TYPES, strict=True)]
    (tmp_path / "labels.txt").write_text("\n".join(['"type"', *rows]) + "\n", encoding="utf-8")
    assert load(written(tmp_path), tmp_path / "labels.txt").labels == ("B cell, naïve", "T")


def test_a_matrix_folder_is_labelled_from_the_command_line_keys_alone(tmp_path: Path) -> None:
    as_csv(tmp_path / "labels.csv", table())
    dataset = load(matrix_folder(tmp_path), tmp_path / "labels.csv", sample_key="lane")
    assert [(p.name, p.n_cells) for p in dataset.populations] == [("B cell, naïve", 30), ("T", 30)]
    np.testing.assert_array_equal(dataset.population_codes, np.arange(N_CELLS) % 2)
    assert dataset.sample_key == "lane"


def test_numbers_are_numbers_and_padded_numbers_are_names(tmp_path: Path) -> None:
    frame = table().assign(age=[30.5, 41.25, np.nan] * 20, cluster=[3, 1, 2] * 20)
    as_csv(tmp_path / "labels.csv", frame)
    config = file_config(
        written(tmp_path), labels=str(tmp_path / "labels.csv"), population_key="type", batch_key="cluster"
    )
    obs = load_dataset(config, obs_keys=("age", "lane")).adata.obs
    np.testing.assert_allclose(obs["age"].astype(float), frame["age"])
    assert obs["cluster"].cat.categories.tolist() == ["1", "2", "3"]
    assert set(obs["lane"]) == {"01", "02"}
    with pytest.raises(DataError, match=r"obs\['age'\] is numeric"):
        load(written(tmp_path), tmp_path / "labels.csv", population_key="age")


def test_cells_without_a_row_have_no_label_and_rows_without_a_cell_are_not_used(tmp_path: Path) -> None:
    frame = pd.concat([table(NAMES[4:]), table(NAMES[:2]).rename(lambda name: f"other-{name}")])
    as_csv(tmp_path / "labels.csv", frame)
    dataset = load(written(tmp_path), tmp_path / "labels.csv")
    assert dataset.adata.n_obs == N_CELLS
    assert dataset.label_codes[:6].tolist() == [-1] * 4 + [0, 1]
    assert dataset.warnings == (
        "counts.h5ad: 4 of 60 cells have no row in labels.csv and so no label, first 'cell0'.",
        "counts.h5ad: 2 of 58 rows of labels.csv belong to no cell and are not used, first 'other-cell0'.",
        "counts.h5ad: 4 of 60 cells have no value in obs['type']: they train the global model and belong to no "
        "population (data.unlabelled=drop leaves them out).",
    )
    with pytest.raises(DataError, match=r"obs\['lane'\] is missing for 4 of 60 cells.*Every cell needs a value"):
        load(written(tmp_path), tmp_path / "labels.csv", batch_key="lane")


def test_a_column_of_the_table_takes_the_place_of_one_in_the_file(tmp_path: Path) -> None:
    as_csv(tmp_path / "labels.csv", table().rename(columns={"type": "cell_type"}))
    dataset = load(written(tmp_path), tmp_path / "labels.csv", population_key="cell_type")
    assert dataset.labels == ("B cell, naïve", "T")
    assert dataset.warnings == ("counts.h5ad: columns of obs that labels.csv replaces: 'cell_type'.",)


ROWS = "".join(f"{name},{kind}\n" for name, kind in zip(NAMES, ["B", "T"] * 30, strict=True))
ERRORS: list[tuple[str, str, bytes | None, tuple[str, ...]]] = [
    ("missing", "labels.csv", None, ("there is no such file of labels", "Check data.labels")),
    ("another type", "labels.xlsx", b"PK", ("labels.xlsx: labels in files of type '.xlsx' are not read", "Allowed:")),
    ("a pickle", "labels.pkl", b"\x80", ("files of type '.pkl' are not read",)),
    ("empty", "labels.csv", b"", ("labels.csv: the table of labels is empty",)),
    ("blank lines", "labels.csv", b"\n \n", ("labels.csv: the table of labels is empty",)),
    ("header only", "labels.csv", b"cell,type\n", ("there is no row below the header",)),
    ("names only", "labels.csv", "\n".join(["cell", *NAMES]).encode(), ("there is one column, 'cell', so no labels",)),
    ("not text", "labels.csv", b"cell,type\n\xff\xfe,B\n", ("byte 10 is not UTF-8", "Save the table as UTF-8")),
    ("NUL", "labels.csv", b"cell,type\ncell0,\x00\n", ("it holds NUL bytes",)),
    ("not gzip", "labels.csv.gz", b"cell,type\n", ("not a whole gzip file",)),
    ("half gzip", "labels.csv.gz", gzip.compress(ROWS.encode())[:-9], ("not a whole gzip file", "write it again")),
    ("ragged", "labels.csv", f"cell,type\n{ROWS}cell99,B,C\n".encode(), ("line 62 has 3 values", "the header has 2")),
    ("open quote", "labels.csv", f'cell,type\n{ROWS}cell99,"B\n'.encode(), ("cannot be read as a table", "quotes")),
    (
        "a cell twice",
        "labels.csv",
        f"cell,type\n{ROWS}cell3,B\n".encode(),
        ("the cell 'cell3' has more than one row, the second in line 62", "one row per cell"),
    ),
    (
        "a column twice",
        "labels.csv",
        b"cell,type,type\ncell0,B,T\n",
        ("1 column names occur more than once, first 'type'",),
    ),
    (
        "no overlap",
        "labels.csv",
        b"cell,type\nAAAC-1,B\n",
        ("no row belongs to a cell of counts.h5ad", "the first row is 'AAAC-1'", "the first cell 'cell0'"),
    ),
    (
        "lane numbers",
        "labels.csv",
        f"cell,type\n{ROWS}".replace(",B", "-1,B").replace(",T", "-1,T").encode(),
        ("the first row is 'cell0-1', the first cell 'cell0'.", "They differ in the lane's number at the end (-1)"),
    ),
    ("no header", "labels.csv", ROWS.encode(), ("its first line is a cell, 'cell0'", "Put a header above it")),
    (
        "cell names in the second column",
        "labels.csv",
        "\n".join(["type,barcode", *(f"{'BT'[i % 2]},{name}" for i, name in enumerate(NAMES))]).encode(),
        ("the cell 'B' has more than one row", "If its column 'barcode' holds the cell names, put it first."),
    ),
    (
        "a cell twice above a short line",
        "labels.csv",
        b"cell,type,barcode\ncell0,B,x\ncell0,T,y\ncell1,B\n",
        ("the cell 'cell0' has more than one row",),
    ),
    (
        "running numbers first",
        "labels.csv",
        "\n".join([",barcode,type", *(f"{i},{name},{'BT'[i % 2]}" for i, name in enumerate(NAMES))]).encode(),
        ("no row belongs to a cell", "Cell names stand in its column 'barcode': put it first."),
    ),
    (
        "samples in front",
        "labels.csv",
        "\n".join(["cell,type", *(f"S1_{name},{'BT'[i % 2]}" for i, name in enumerate(NAMES))]).encode(),
        (
            "no row belongs to a cell",
            "The rows have more in front, as 'S1_' in 'S1_cell0' for 'cell0': write both alike.",
        ),
    ),
    (
        "samples at the end",
        "labels.csv",
        "\n".join(["cell,type", *(f"{name}_2,{'BT'[i % 2]}" for i, name in enumerate(NAMES))]).encode(),
        ("no row belongs to a cell", "The rows have more at the end, as '_2' in 'cell0_2' for 'cell0'"),
    ),
    (
        "a comma without quotes in every label",
        "labels.csv",
        "\n".join(
            [
                "barcode,type",
                *(f"{name},{'BT'[i % 2]}, {'naive memory'.split()[i % 2]}" for i, name in enumerate(NAMES)),
            ]
        ).encode(),
        ("line 2 has 3 values where the header has 2", "Quote values"),
    ),
    (
        "key not in the table",
        "labels.csv",
        f"cell,types\n{ROWS}".encode(),
        ("obs has no column 'type'. Nearest: 'types'", "Set data.population_key"),
    ),
]


@pytest.mark.parametrize(("name", "content", "says"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_an_unusable_table_gets_one_clear_message(
    name: str, content: bytes | None, says: tuple[str, ...], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(written(tmp_path), tmp_path / name)
    for fragment in says:
        assert fragment in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the labels cannot be read: Is a directory"):
        load(written(tmp_path), tmp_path)


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_cells_that_share_a_labelled_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lambda adata: setattr(adata, "obs_names", ["cell1", *NAMES[1:]]))
    as_csv(tmp_path / "labels.csv", table())
    with pytest.raises(DataError, match=r"1 cell names occur more than once, first 'cell1', so a row of labels\.csv"):
        load(path, tmp_path / "labels.csv")


def test_data_without_labels_say_how_to_give_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Set data\.labels to a \.csv or \.tsv with the cell names in its first"):
        load_dataset(file_config(matrix_folder(tmp_path), population_key="type"))


def test_embedded_data_take_labels_too(tmp_path: Path) -> None:
    names = load_dataset(DataConfig(n_top_genes=50)).adata.obs_names
    pd.DataFrame({"half": ["a", "b"] * (len(names) // 2)}, index=names).to_csv(tmp_path / "labels.csv")
    dataset = load_dataset(DataConfig(labels=str(tmp_path / "labels.csv"), population_key="half", n_top_genes=50))
    assert [p.n_cells for p in dataset.populations] == [350, 350]


def test_the_hash_names_the_table_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = config_hash(build_config({"data": {"labels": str(tmp_path / "labels.csv")}}))
    assert absolute != config_hash(build_config({}))
    monkeypatch.chdir(tmp_path)
    assert config_hash(build_config({"data": {"labels": "labels.csv"}})) == absolute
