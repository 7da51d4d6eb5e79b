import re

import pytest

from gateway.portal.assets import ASSETS, VERSION, asset_path


def test_an_address_carries_the_hash_of_all_content() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", VERSION)
    assert asset_path("portal.css") == f"/.gateway/static/{VERSION}/portal.css"


def test_a_template_can_only_name_what_is_there() -> None:
    with pytest.raises(KeyError):
        asset_path("missing.css")


def test_nothing_comes_from_elsewhere() -> None:
    for name, asset in ASSETS.items():
        text = asset.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"//[a-z]|@import|url\(", text.replace("// ", "")), name
