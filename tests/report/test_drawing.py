"""Figures drawn side by side in processes."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers import drawings, report_fixture

from scballast.report import drawing
from scballast.report.drawing import drawers
from scballast.report.experiment_report import render_trial_report
from scballast.report.html import Drawing, Picture, Section
from scballast.report.stored_tables import StoredFolder

ROOT = Path(__file__).parents[2]
HERE = os.getpid()


@pytest.fixture(autouse=True)
def _drawings_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def drawn(folder: Path, *wanted: Drawing, n_processes: int = 2) -> list[Section]:
    """Draw the first figure in one section, and the others in another."""
    sections = [Section("a", "A", "", drawings=wanted[:1]), Section("b", "B", "", drawings=wanted[1:])]
    with drawers(n_processes) as others:
        return others.draw(StoredFolder(folder), sections)


def twice(function: Callable[..., Picture], *arguments: object) -> tuple[Drawing, Drawing]:
    return Drawing(function, arguments), Drawing(function, arguments)


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_report_is_the_same_from_one_process_and_from_three(tmp_path: Path) -> None:
    shape = report_fixture.Shape(n_populations=3, n_latent=3, marker=("contrast", "wilcoxon"), program=("spread",))
    one = report_fixture.write_trial(tmp_path / "one", shape)
    three = tmp_path / "three"
    shutil.copytree(one, three)
    for folder, n_processes in ((one, 1), (three, 3)):
        with drawers(n_processes) as others:
            render_trial_report(folder, others)
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(three) for path in three.rglob("*") if path.is_file()}
    assert len([path for path in files if path.suffix == ".svg"]) >= 8
    assert [path for path in files if (one / path).read_bytes() != (three / path).read_bytes()] == []


def test_figures_are_drawn_at_once_and_come_in_their_order(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    wanted = [Drawing(drawings.meeting, (name, names)) for name in names]
    first, second = drawn(tmp_path, *wanted, n_processes=3)
    pictures = [*first.pictures, *second.pictures]
    assert [picture.stem for picture in pictures] == ["a", "b", "c"]
    assert (len(first.pictures), len(second.pictures)) == (1, 2)
    assert first.drawings == second.drawings == ()
    assert len({picture.caption for picture in pictures}) == 3  # processes
    assert str(HERE) in {picture.caption for picture in pictures}


@pytest.mark.parametrize("n_processes", [1, 2])
def test_the_first_figure_that_fails_is_told(tmp_path: Path, n_processes: int) -> None:
    wanted = (
        Drawing(drawings.signed, ("whole",)),
        Drawing(drawings.failing, ("the second",)),
        Drawing(drawings.failing, ("the third",)),
    )
    with pytest.raises(ZeroDivisionError, match=r"^the second has no height$"):
        drawn(tmp_path, *wanted, n_processes=n_processes)


def test_an_error_of_another_process_is_itself_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as told:
        drawn(tmp_path, *twice(drawings.full_elsewhere, HERE))
    assert (told.value.errno, told.value.filename) == (28, "figures/a.png")
    assert "in full_elsewhere" in str(told.value.__cause__)


def test_an_error_that_cannot_be_sent_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^Local: cannot be sent$") as told:
        drawn(tmp_path, *twice(drawings.without_pickle, HERE))
    assert "in without_pickle" in str(told.value.__cause__)


def test_a_drawing_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    work, other = drawing._Work([Drawing(drawings.signed, (lambda: None,))]), drawing._Other()
    try:
        other.take_part(pickle.dumps(StoredFolder(tmp_path)), work)
    finally:
        other.end()
    with pytest.raises(Exception, match="pickle"):
        work.pictures()


def test_a_warning_of_another_process_meets_the_filters_of_this_one(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="a font is missing") as caught:
        drawn(tmp_path, *twice(drawings.warning_elsewhere, HERE))
    assert [Path(warning.filename).name for warning in caught] == ["drawings.py"]


def test_a_warning_of_many_figures_is_told_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        drawn(tmp_path, *(Drawing(drawings.always_warning, ()) for _ in range(4)), n_processes=1)
    assert len(caught) == 1


def test_an_interrupt_ends_the_other_processes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, *twice(drawings.interrupted_here, HERE))
    assert not is_there(drawings.other_process(tmp_path))


def test_what_a_process_leaves_that_dies_is_drawn_by_this_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        first, second = drawn(tmp_path, *twice(drawings.dying_elsewhere, HERE))
    assert {picture.caption for picture in (*first.pictures, *second.pictures)} == {str(HERE)}
    assert caplog.messages == ["A process that drew figures ended with status 3; others draw what it left."]


def test_where_no_process_can_be_started_one_draws_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(drawing.subprocess, "Popen", refused)
    with caplog.at_level(logging.WARNING):
        first, _ = drawn(tmp_path, *twice(drawings.signed, "a"))
    assert first.pictures[0].caption == str(HERE)
    (message,) = caplog.messages
    assert message.startswith("Figures are drawn by 1 instead of 2 processes: ")


def test_processes_end_when_the_one_that_started_them_is_gone(tmp_path: Path) -> None:
    words = (
        "import os; from pathlib import Path; from tests.helpers import drawings; "
        "from scballast.report.drawing import drawers; from scballast.report.html import Drawing, Section; "
        "from scballast.report.stored_tables import StoredFolder; names = ('a', 'b'); "
        "wanted = tuple(Drawing(drawings.meeting, (name, names)) for name in names)\n"
        "with drawers(2) as others:\n"
        f"    folder, section = StoredFolder(Path({str(tmp_path)!r})), Section('a', '', '', drawings=wanted)\n"
        "    (section,) = others.draw(folder, [section])\n"
        "    print(*{p.caption for p in section.pictures} - {str(os.getpid())}, flush=True)\n"
        "    os.read(0, 1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_there(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        end = time.monotonic() + 60
        while _runs(child):
            assert time.monotonic() < end
            time.sleep(0.02)


def _runs(process: int) -> bool:
    """Whether a process has not ended; of one that nobody waits for its number stays."""
    status = Path(f"/proc/{process}/stat")
    if status.parents[1].is_dir():
        try:
            return status.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    return is_there(process)
