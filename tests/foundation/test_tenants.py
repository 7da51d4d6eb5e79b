import pytest

from gateway.foundation.tenants import EVERY_CUSTOMER, NO_CUSTOMER, is_tenant_name


@pytest.mark.parametrize("name", ["a", "7", "acme", "acme-2", "a--b", "x" * 63])
def test_a_label_of_a_host_name_is_a_tenants_name(name):
    assert is_tenant_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "-", "*", "-a", "a-", "A", "Acme", "a.b", "a_b", "a b", " a", "a\n", "a\0", "../a", "a/b", "%61", "ä", "１",
     "x" * 64, EVERY_CUSTOMER, NO_CUSTOMER, "{tenant}", "a@b"],
)  # fmt: skip
def test_anything_else_is_not(name):
    assert not is_tenant_name(name)
