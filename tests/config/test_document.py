import pytest

from gateway.config.document import dotted


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("a",), "a"), (("a", 0, "b", 12), "a[0].b[12]"), ((0,), "[0]"), (("a", "b"), "a.b")],
)
def test_dotted(path, text):
    assert dotted(path) == text
