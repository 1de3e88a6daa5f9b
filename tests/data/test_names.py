"""Names made safe, unique and quotable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scballast.data.names import MAX_SAFE_LENGTH, make_unique, quote, safe_name, safe_names, valid_text


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("CD4+/CD25 T Reg", "CD4plus_CD25_T_Reg"),
        ("CD4+/CD45RA+/CD25- Naive T", "CD4plus_CD45RAplus_CD25-_Naive_T"),
        ("B cells", "B_cells"),
        ("γδ T", "gammadelta_T"),
        ("Müller glia", "Muller_glia"),
        ("2-cell stage", "2-cell_stage"),
        ("--help", "help"),
        ("../../etc/passwd", "etc_passwd"),
        ("<script>alert(1)</script>", "script_alert_1_script"),
        ("细胞", "population"),
        ("..", "population"),
        ("x" * 99, "x" * 60),
    ],
)
def test_safe_names_stay_readable(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_collisions_get_numbers_and_a_name_that_is_safe_keeps_its_form() -> None:
    assert safe_names(["A/B", "A B", "A_B", "a_b"]) == ("A_B_2", "A_B_3", "A_B", "a_b_4")


@given(st.lists(st.text(max_size=80), unique=True, max_size=30))
def test_safe_names_are_safe_and_unique_on_any_file_system(names: list[str]) -> None:
    safe = safe_names(names)
    assert len({name.casefold() for name in safe}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= MAX_SAFE_LENGTH for name in safe)
    assert not any(name.startswith("-") for name in safe)


@given(st.lists(st.sampled_from(["a", "b", "a-1", "a-1-1", "b-2", ""]), max_size=12))
def test_made_unique_names_keep_first_uses_and_never_collide(names: list[str]) -> None:
    unique, n_changed = make_unique(names)
    assert len(set(unique)) == len(names)
    assert n_changed == len(names) - len(set(names))
    for position, (before, after) in enumerate(zip(names, unique, strict=True)):
        if before not in names[:position]:
            assert after == before
        else:
            assert re.fullmatch(re.escape(before) + r"-\d+", after)


def test_text_that_no_file_accepts_is_replaced() -> None:
    assert valid_text("a\udc80b") == "a?b"
    assert valid_text(b"caf\xc3\xa9") == "café"
    assert quote("x" * 200) == repr("x" * 79 + "…")
