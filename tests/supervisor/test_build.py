import json

import pytest

from gateway.foundation.errors import InvalidFile
from gateway.policy.cases import question_for
from gateway.policy.decide import decide
from gateway.policy.schema import Identity
from gateway.policy.values import parse_request
from gateway.supervisor.build import PORTAL_SOCKET, from_message, read_configuration


def problems_of(place):
    with pytest.raises(InvalidFile) as refused:
        place.configuration()
    return refused.value.problems


def lines(place, text):
    return next(number for number, line in enumerate(place.policy_path.read_text().splitlines(), 1) if text in line)


# A good configuration.


def test_both_files_become_one_configuration(place):
    configuration = place.configuration()
    assert configuration.settings_path == place.settings_path
    assert configuration.settings_text == place.settings_path.read_text()
    assert configuration.policy_text == place.policy_path.read_text()
    assert set(configuration.policy.applications) == {"orders", "gateway.portal"}
    assert len(configuration.digest) == 16


def test_the_portal_is_an_application_on_its_socket(place):
    portal = place.configuration().policy.applications["gateway.portal"]
    assert portal.host == "login.btb.localhost"
    assert [str(upstream) for upstream in portal.upstreams] == [f"unix:{place.state_dir / PORTAL_SOCKET}"]


def test_the_public_port_is_the_one_clients_connect_to(place):
    assert place.configuration().public_port == place.configuration().settings.listen.https.port
    place.edit(place.settings_path, "workers: 2", "workers: 2\npublic_port: 443")
    assert place.configuration().public_port == 443
    assert place.configuration().snapshot(7).version == 7


@pytest.mark.parametrize("which", ["settings", "policy"])
def test_the_digest_names_every_byte_of_both_files(place, which):
    before = place.configuration().digest
    assert place.configuration().digest == before
    path = place.settings_path if which == "settings" else place.policy_path
    path.write_text(path.read_text() + "# a comment\n")
    after = place.configuration().digest
    assert after != before
    path.write_text(path.read_text().removesuffix("# a comment\n"))
    assert place.configuration().digest == before


def test_text_moved_from_one_file_to_the_other_is_another_configuration(place):
    place.settings_path.write_text(place.settings_path.read_text() + "# moved\n")
    first = place.configuration().digest
    place.edit(place.settings_path, "# moved\n", "")
    place.policy_path.write_text("# moved\n" + place.policy_path.read_text())
    assert place.configuration().digest != first


# In a child.


def meaning(policy):
    """What a policy says: its routes, and what it decides on each of some requests."""
    routes = [
        (route.id, route.pattern.text, route.methods, route.tenant, route.why, route.encoded)
        for application in policy.applications.values()
        for route in application.routes
    ]
    decisions = []
    for who in ("anonymous", {"grants": ["support@acme"]}, {"grants": ["support@acme"], "otp_age": "1m"}):
        identity = Identity.model_validate(who)
        for path in ("status", "t/acme/orders/7", "t/other/orders/7", "nothing", ".gateway/whoami"):
            request = parse_request(f"GET https://orders.btb.localhost/{path}")
            decided = decide(policy, question_for(policy, identity, request))
            decisions.append((decided.verdict, decided.reason, decided.permissions, decided.until))
    return policy.roles, sorted(policy.hosts), sorted(policy.tenant_hosts), routes, decisions


def test_a_child_builds_the_same_from_the_message(place):
    read = place.configuration()
    built = from_message(json.loads(json.dumps(read.as_message())))
    assert built.settings == read.settings
    assert built.digest == read.digest
    assert meaning(built.policy) == meaning(read.policy)
    assert (built.settings_path, built.settings_text, built.policy_text) == (
        read.settings_path, read.settings_text, read.policy_text,
    )  # fmt: skip


def test_a_child_takes_the_texts_that_were_checked_and_never_the_files(place):
    message = place.configuration().as_message()
    before = place.configuration()
    for path in (place.settings_path, place.policy_path, place.key_path):
        path.unlink()
    assert from_message(message).settings == before.settings


def test_a_child_has_the_name_of_the_node_that_the_master_found(place):
    place.edit(place.settings_path, "node: node-1\n", "")
    message = place.configuration().as_message()
    assert message["node"]
    assert from_message({**message, "node": "another"}).settings.node == "another"


def test_relative_paths_count_from_the_settings_file_wherever_one_stands(place, monkeypatch, tmp_path_factory):
    expected = place.configuration().settings
    monkeypatch.chdir(place.folder)
    message = read_configuration(place.settings_path.relative_to(place.folder)).as_message()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert from_message(message).settings == expected


def test_the_message_holds_no_secret(place):
    place.configuration()
    assert place.master.decode() not in json.dumps(place.configuration().as_message())


@pytest.mark.parametrize(("name", "text"), [("policy_text", "permissions: [a, a"), ("settings_text", "domain: 1")])
def test_a_child_refuses_what_no_master_would_send(place, name, text):
    with pytest.raises(InvalidFile):
        from_message({**place.configuration().as_message(), name: text})


# Secrets that applications are told.

SET = "    request_headers: {set: {X-Key: {env: BTB_ORDERS}, Authorization: {file: orders-password}}}\n    routes:"


@pytest.fixture
def telling(place, monkeypatch):
    place.edit(place.policy_path, "    routes:", SET)
    (place.folder / "orders-password").write_text("Basic canary\n")
    (place.folder / "orders-password").chmod(0o600)
    monkeypatch.setenv("BTB_ORDERS", "canary-of-the-environment")
    return place


def told(policy):
    return policy.applications["orders"].terms.request.lines


@pytest.mark.requirement("ASVS 13.3.1")
def test_a_secret_is_read_where_the_policy_says(telling):
    configuration = telling.configuration()
    assert told(configuration.policy) == (b"X-Key: canary-of-the-environment", b"Authorization: Basic canary")
    assert "canary" not in f"{configuration!r}{configuration.policy.applications['orders']!r}"
    assert "canary" not in json.dumps(configuration.as_message())


def test_a_child_takes_the_secrets_that_were_checked_if_it_is_given_them(telling):
    configuration = telling.configuration()
    message = json.loads(json.dumps(configuration.as_message()))
    given = {place: secret.reveal() for place, secret in configuration.header_secrets.items()}
    (telling.folder / "orders-password").unlink()
    assert told(from_message({**message, "header_secrets": given}).policy) == told(configuration.policy)
    bare = from_message(message).policy
    assert (told(bare), bare.applications["orders"].terms.request.names) == ((), {b"x-key", b"authorization"})
    with pytest.raises(InvalidFile, match="not handed on"):
        from_message({**message, "header_secrets": {}})


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.unlink(), "can't be read"),
        (lambda path: path.chmod(0o644), "open to every user"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("canary\r\nX-Gateway-User: root"), "no value of a header"),
        (lambda path: path.write_text("canary é"), "other characters"),
        (lambda path: path.write_bytes(b"canary\0"), "no value of a header"),
    ],
)
def test_a_secret_that_can_t_be_told_is_a_problem_at_its_place(telling, spoil, complaint):
    spoil(telling.folder / "orders-password")
    (problem,) = problems_of(telling)
    assert problem.line == lines(telling, "X-Key")
    assert complaint in problem.message
    assert "canary" not in str(problem)


@pytest.mark.parametrize(
    "place_of",
    ["{}", "{file: a, env: B}", "{file: ''}", "{env: 5}", "{env: 'a b'}", "{vault: a}", "[file]", "5", "null"],
)
def test_a_place_is_one_file_or_one_variable(place, place_of):
    place.edit(
        place.policy_path,
        "    routes:",
        SET.replace("{env: BTB_ORDERS}, Authorization: {file: orders-password}", place_of),
    )
    (problem,) = problems_of(place)
    assert problem.line == lines(place, "X-Key")


# Problems.


def test_every_problem_of_both_files_at_once(place):
    place.edit(place.settings_path, "domain: btb.localhost", "domain: btb.localhost.")
    place.edit(place.settings_path, "workers: 2", "workers: none\nwrokers: 2")
    place.edit(place.policy_path, "permissions: [order_details]\nroles", "permissoins: [order_details]\nroles")
    place.edit(place.policy_path, "methods: [GET], allow: public", "methods: GET, allow: public")
    problems = problems_of(place)
    found = {(problem.file, problem.path) for problem in problems}
    settings, policy = str(place.settings_path), str(place.policy_path)
    assert {(settings, "domain"), (settings, "workers"), (settings, "wrokers"), (policy, "permissoins")} <= found
    assert any(file == policy and path.startswith("applications[0].routes[0].methods") for file, path in found)
    assert all(problem.line for problem in problems)


def test_with_broken_settings_the_meaning_of_the_policy_is_checked_as_well(place):
    place.edit(place.settings_path, "workers: 2", "workers: none")
    place.edit(place.policy_path, "support: {permissions: [order_details]}", "support: {permissions: [order_detials]}")
    assert [(problem.file, problem.path.partition("[")[0]) for problem in problems_of(place)] == [
        (str(place.settings_path), "workers"),
        (str(place.policy_path), "roles.support.permissions"),
    ]


def test_broken_settings_without_a_policy_beside_them(place):
    place.edit(place.settings_path, "workers: 2", "workers: none")
    place.policy_path.unlink()
    assert [problem.path for problem in problems_of(place)] == ["workers"]


@pytest.mark.requirement("ASVS 8.1.1")
def test_a_failing_policy_test_is_a_problem_with_its_place(place):
    place.edit(place.policy_path, "is: deny, because: tenant", "is: allow")
    (problem,) = problems_of(place)
    assert problem.file == str(place.policy_path)
    assert problem.line == lines(place, "/t/other/orders/7")
    assert problem.path == "tests[0].expect[1]"
    assert "support sees orders of its tenant only" in f"{problem.message} {problem.hint}"


def test_all_failing_policy_tests_are_told(place):
    place.edit(place.policy_path, "is: deny, because: tenant", "is: allow")
    place.edit(place.policy_path, 'acme/orders/7", is: allow', 'acme/orders/7", is: deny')
    assert [problem.path for problem in problems_of(place)] == ["tests[0].expect[0]", "tests[0].expect[1]"]


@pytest.mark.parametrize(
    ("old", "new", "place_of_it"),
    [
        ("host: orders.btb.localhost", "host: login.btb.localhost", "applications[0]"),
        ("name: orders", "name: gateway.portal", "applications[0].name"),
        ('upstream: ["http://127.0.0.1:9001"]', 'upstream: ["ftp://127.0.0.1"]', "applications[0].upstream"),
        ("{permission: order_details, otp_within: 5m}", "{permission: order_detials}", "applications[0].routes[1]"),
        ("allow: public, why: status page", "allow: public", "applications[0].routes[0]"),
    ],
)
def test_a_policy_that_cannot_be_meant(place, old, new, place_of_it):
    place.edit(place.policy_path, old, new)
    problems = problems_of(place)
    assert any(problem.path.startswith(place_of_it) for problem in problems)
    assert all(problem.file == str(place.policy_path) and problem.line for problem in problems)


@pytest.mark.parametrize("which", ["settings_path", "policy_path"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        (b"\xff\xfe", "UTF-8"),
        (b"domain: a\ndomain: b\n", ""),
        (b"- a\n", ""),
        (b"", ""),
        (b"a: [", ""),
        (b"a: &x 1\nb: *x\n", ""),
        (b"a: !!python/object/apply:os.system [id]\n", ""),
    ],
)
def test_what_is_no_settings_or_policy_file(place, which, content, told):
    path = getattr(place, which)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    problems = problems_of(place)
    assert problems
    assert any(problem.file == str(path) and told in problem.message for problem in problems)
