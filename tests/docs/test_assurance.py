"""Each advisory and each requirement has a test or a reason, and each mark a row."""

from pathlib import Path

import pytest

from docs.assurance import ROWS, MarkedTest, Row, State, groups, marked

TEST = MarkedTest(Path("test_x.py"), "test_it")


@pytest.mark.parametrize("kind", ROWS)
def test_every_row_has_a_test_or_a_reason(kind: str) -> None:
    states = [row.state for group in groups(kind, ROWS[kind]) for row in group.rows]
    assert len(states) > 80
    assert states.count(State.HELD) > len(states) / 2


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"tests": (TEST,)}, State.HELD),
        ({"tests": (TEST,), "stated": "x"}, State.HELD),
        ({"tests": (TEST,), "lacks": "x"}, State.IN_PART),
        ({"stated": "x", "lacks": "x"}, State.IN_PART),
        ({"stated": "x"}, State.STATED),
        ({"inapplicable": "x"}, State.INAPPLICABLE),
        ({"lacks": "x"}, State.MISSING),
        ({}, None),
        ({"tests": (TEST,), "inapplicable": "x"}, None),
        ({"lacks": "x", "inapplicable": "x"}, None),
        ({"stated": "x", "inapplicable": "x"}, None),
    ],
)
def test_what_a_row_comes_to(said: dict[str, object], state: State | None) -> None:
    row = Row(("CVE-1",), "", **{"tests": (), **said})  # type: ignore[arg-type]  # The table is of texts and tests.
    if state is not None:
        assert row.state is state
        return
    with pytest.raises(ValueError, match="CVE-1 needs a test or a reason"):
        _ = row.state


def written_to(folder: Path, *lines: str) -> Path:
    (folder / "inner").mkdir()
    (folder / "inner" / "test_x.py").write_text("\n".join(("import pytest", *lines)))
    return folder


@pytest.mark.parametrize("begins", ["def", "async def"])
def test_marks_are_found_above_tests(tmp_path: Path, begins: str) -> None:
    mark = '@pytest.mark.advisory("A-1", "A-2")'
    folder = written_to(tmp_path, mark, "@pytest.mark.parametrize('a', [1])", f"{begins} test_it(a): pass")
    assert {id_: test.name for id_, (test,) in marked("advisory", folder).items()} == {
        "A-1": "test_it",
        "A-2": "test_it",
    }
    assert marked("requirement", folder) == {}


@pytest.mark.parametrize(
    "lines",
    [
        ("pytestmark = pytest.mark.advisory('A-1')",),
        ("@pytest.mark.advisory", "def test_it(): pass"),
        ("@pytest.mark.advisory('A-1')", "def helper(): pass"),
        ("class TestIt:", "    @pytest.mark.advisory('A-1')", "    def test_it(self): pass"),
        ("ROWS = [pytest.param(1, marks=pytest.mark.advisory('A-1'))]",),
        ("ID = 'A-1'", "@pytest.mark.advisory(ID)", "def test_it(): pass"),
    ],
)
def test_a_mark_that_could_not_be_seen_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    folder = written_to(tmp_path, *lines)
    with pytest.raises(ValueError, match=r"belongs above a test|malformed node"):
        marked("advisory", folder)


ROW = '[[group]]\ntitle = "t"\ntext = ""\n[[group.row]]\nids = ["A-1"]\ndemand = "d"\n'


@pytest.mark.parametrize(
    ("rows", "fault", "because"),
    [
        (ROW.replace("A-1", "A-2"), ValueError, "in no row: ['A-1']"),
        (f'{ROW}[[group.row]]\nids = ["A-1"]\ndemand = "d"\n', ValueError, "two rows have"),
        (f'{ROW}because = "x"\n', TypeError, "because"),
    ],
)
def test_a_mark_without_a_row_and_a_row_without_sense_are_refused(
    tmp_path: Path, rows: str, fault: type[Exception], because: str
) -> None:
    folder = written_to(tmp_path, "@pytest.mark.advisory('A-1')", "def test_it(): pass")
    file = tmp_path / "rows.toml"
    file.write_text(ROW)
    assert groups("advisory", file, folder)[0].rows[0].state is State.HELD
    file.write_text(rows)
    with pytest.raises(fault) as caught:
        groups("advisory", file, folder)
    assert because in str(caught.value)
