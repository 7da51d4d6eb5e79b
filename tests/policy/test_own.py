import pytest

from gateway.policy.compile import InvalidPolicy, compile_policy
from gateway.policy.own import own_application
from gateway.policy.schema import PolicyFile


def test_the_portal_is_an_application_of_public_routes() -> None:
    section = own_application("login.test", "unix:/run/portal.sock", [("/enrol/{secret}", ("GET", "POST"), "a link")])
    portal = compile_policy(PolicyFile(), (section,)).applications["gateway.portal"]
    assert portal.is_own
    assert [(route.id, route.is_public, route.why) for route in portal.routes] == [
        ("gateway.portal:/enrol/{secret}", True, "a link")
    ]


@pytest.mark.parametrize(
    "host", ["account.test.example", "ADMIN.test.example", "login.test.example", "{tenant}.test.example"]
)
def test_nobody_is_served_on_a_host_of_ours(host: str) -> None:
    ours = frozenset({"login.test.example", "account.test.example", "admin.test.example"})
    routes = [{"path": "/", "methods": ["GET"], "allow": "authenticated"}]
    application = {"name": "crm", "host": host, "upstream": ["https://10.0.0.1"], "routes": routes}
    file = PolicyFile.model_validate({"applications": [application]})
    with pytest.raises(InvalidPolicy) as caught:
        compile_policy(file, (), ours)
    assert [problem.path for problem in caught.value.problems] == ["applications[0].host"]


@pytest.mark.parametrize("host", ["crm.test.example", "{tenant}.crm.test.example", "account.other.example"])
def test_beside_our_hosts_there_is_room(host: str) -> None:
    routes = [{"path": "/", "methods": ["GET"], "allow": "authenticated"}]
    application = {"name": "crm", "host": host, "upstream": ["https://10.0.0.1"], "routes": routes}
    file = PolicyFile.model_validate({"applications": [application]})
    assert "crm" in compile_policy(file, (), frozenset({"account.test.example"})).applications
