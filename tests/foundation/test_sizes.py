import pytest

from gateway.foundation.sizes import parse_size


@pytest.mark.parametrize(("text", "size"), [("1KiB", 1024), ("64KiB", 65536), ("10MiB", 10 << 20), ("1GiB", 1 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", 1, None, True, "1 KiB", "1kb", "1KB", "-1KiB", "1.5MiB", "1MiB\n", "٣KiB"])
def test_nothing_is_guessed(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
