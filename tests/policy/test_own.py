from gateway.policy.compile import compile_policy
from gateway.policy.own import own_application
from gateway.policy.schema import PolicyFile


def test_the_portal_is_an_application_of_public_routes() -> None:
    section = own_application("login.test", "unix:/run/portal.sock", [("/enrol/{secret}", ("GET", "POST"), "a link")])
    portal = compile_policy(PolicyFile(), (section,)).applications["gateway.portal"]
    assert portal.is_own
    assert [(route.id, route.is_public, route.why) for route in portal.routes] == [
        ("gateway.portal:/enrol/{secret}", True, "a link")
    ]
