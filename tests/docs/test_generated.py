"""The reference pages say what the code says."""

import pytest

from docs.generate import FOLDER, pages

WRITTEN = pages()


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == WRITTEN[name], "run `make docs`"
