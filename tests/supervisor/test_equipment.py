import base64
import fcntl
import json
import os
import socket
import stat

import pytest

from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import PUBLISHED_SECONDS, PURPOSES
from gateway.supervisor.equipment import ROLES, Equipment, StateLock, certificate_names, worker_count
from gateway.supervisor.roster import Roster

ROWS = {
    "worker": {"assertion", "session", "hand-over", "seal"},
    "portal": {"session", "hand-over", "factor", "seal"},
    "keeper": {"session", "seal", "journal", "snapshot"},
}


@pytest.fixture
def equipment(place):
    with Equipment.for_configuration(place.configuration()) as equipment:
        yield equipment


def seats():
    return Roster(2).seats


# Keys.


@pytest.mark.parametrize("role", ROWS)
@pytest.mark.requirement("ASVS 13.3.2")
def test_a_process_is_handed_exactly_the_keys_of_its_row(equipment, role):
    given = equipment.for_role(role)
    assert set(given["keys"]) == ROWS[role]
    assert ROWS[role] == {purpose.name for purpose in PURPOSES if role in purpose.readers}
    for purpose, versions in given["keys"].items():
        assert [version["purpose"] for version in versions] == [purpose]


@pytest.mark.requirement("ASVS 13.3.2")
def test_no_key_of_another_row_is_anywhere_in_what_a_process_is_handed(place, equipment):
    everybodys = {role: equipment.for_role(role) for role in ROWS}
    materials = {
        purpose: version["material"]
        for given in everybodys.values()
        for purpose, versions in given["keys"].items()
        for version in versions
    }
    for role, given in everybodys.items():
        text = json.dumps(given)
        for purpose, material in materials.items():
            assert (material in text) == (purpose in ROWS[role]), (role, purpose)
        assert place.master.decode() not in text
        assert base64.b64encode(place.master).decode() not in text


def test_only_who_serves_tls_has_its_private_keys(equipment):
    assert "certificates" not in equipment.for_role("portal")
    assert "PRIVATE KEY" not in json.dumps(equipment.for_role("portal"))
    for role in ("worker", "keeper"):
        (certificate,) = equipment.for_role(role)["certificates"]
        assert certificate["chain"].startswith("-----BEGIN CERTIFICATE")
        assert "PRIVATE KEY" in certificate["private_key"]


def test_the_public_keys_hold_no_private_part(equipment):
    for role in ROWS:
        (key,) = equipment.for_role(role)["jwks"]["keys"]
        assert key["kty"] == "EC"
        assert "d" not in key


def test_a_rotated_key_is_in_renewed_equipment(place, equipment):
    (old,) = equipment.for_role("worker")["keys"]["assertion"]
    renewed = equipment.renewed(place.configuration(), "assertion")
    versions = renewed.for_role("worker")["keys"]["assertion"]
    assert versions[:1] == [old]
    assert versions[1]["id"] == renewed.newest("assertion")
    assert len(renewed.for_role("portal")["jwks"]["keys"]) == 2
    assert renewed.keys_change == versions[1]["created"] + PUBLISHED_SECONDS


def test_a_rotated_key_that_nobody_took_is_nowhere(place, equipment):
    """Refused by a process, it was never in use; so it isn't kept."""
    renewed = equipment.renewed(place.configuration(), "session")
    assert len(renewed.keys()) == len(PURPOSES) + 1
    assert len(equipment.renewed(place.configuration()).keys()) == len(PURPOSES)
    renewed.save_keys()
    assert len(equipment.renewed(place.configuration()).keys()) == len(PURPOSES) + 1


@pytest.mark.advisory("CVE-2026-40166")
def test_what_is_told_of_keys_is_not_their_material(equipment):
    materials = [
        version["material"]
        for role in ROWS
        for versions in equipment.for_role(role)["keys"].values()
        for version in versions
    ]
    assert not any(material in json.dumps(equipment.keys()) for material in materials)


def test_nothing_of_the_keys_is_in_clear_under_the_state_folder(place, equipment):
    content = place.everything()
    assert place.master not in content
    for role in ROWS:
        for versions in equipment.for_role(role)["keys"].values():
            for version in versions:
                material = base64.b64decode(version["material"])
                assert material not in content
                assert version["material"].encode() not in content
                assert material.hex().encode() not in content


def test_what_is_under_the_state_folder_is_its_owners(place, equipment):
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (place.state_dir, *place.state_dir.rglob("*"))}
    for path, mode in modes.items():
        if path.is_dir():
            assert mode == 0o700, path
        elif path.is_socket():
            assert mode == 0o600, path
        else:
            assert mode == (0o644 if path.name == "ca.pem" else 0o600), path


def test_the_master_key_is_in_no_environment(place):
    place.edit(place.settings_path, "{file: key}", "{env: BTB_KEY}")
    os.environ["BTB_KEY"] = place.master.decode()
    try:
        with Equipment.for_configuration(place.configuration()) as equipment:
            for role in ROLES:
                environment = dict(os.environ)
                equipment.hide_secrets(environment, role)
                assert place.master.decode() not in environment.values()
                assert set(os.environ) - set(environment) == {"BTB_KEY"}
    finally:
        del os.environ["BTB_KEY"]


@pytest.mark.requirement("ASVS 13.3.2")
def test_what_applications_are_told_is_given_to_workers_alone(place, monkeypatch):
    rules = "    request_headers: {set: {X-Key: {env: BTB_ORDERS}}}\n    routes:"
    place.edit(place.policy_path, "    routes:", rules)
    monkeypatch.setenv("BTB_ORDERS", "canary")
    with Equipment.for_configuration(place.configuration()) as equipment:
        for role in ROLES:
            environment = {"BTB_ORDERS": "canary"}
            equipment.hide_secrets(environment, role)
            assert environment == {}
            assert ("canary" in json.dumps(equipment.for_role(role))) == (role == "worker")
        assert equipment.for_role("worker")["header_secrets"] == {"env:BTB_ORDERS": "canary"}


def test_a_witness_s_token_is_in_the_keeper_s_environment_alone(place):
    with place.settings_path.open("a") as settings:
        settings.write('audit: {witnesses: [{https: "https://witness.example/", token: {env: BTB_TOKEN}}]}\n')
    with Equipment.for_configuration(place.configuration()) as equipment:
        for role in ROLES:
            environment = {"BTB_TOKEN": "a-token"}
            equipment.hide_secrets(environment, role)
            assert ("BTB_TOKEN" in environment) == (role == "keeper")


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda path: path.unlink(), "can't be read"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"x" * 31), "too short"),
        (lambda path: path.chmod(0o604), "open to every user"),
    ],
)
@pytest.mark.advisory("CVE-2026-54762")
def test_without_a_good_master_key_nothing_is_held(place, prepare, told):
    prepare(place.key_path)
    configuration = place.configuration()
    with pytest.raises(GatewayError, match=told):
        Equipment.for_configuration(configuration)
    place.key_path.write_bytes(place.master)
    place.key_path.chmod(0o600)
    # Neither the lock nor a socket has stayed behind.
    with Equipment.for_configuration(configuration):
        pass


def test_another_master_key_is_refused(place):
    with Equipment.for_configuration(place.configuration()):
        pass
    place.key_path.write_bytes(b"n" * 32)
    with pytest.raises(GatewayError, match="does not open with this master key"):
        Equipment.for_configuration(place.configuration())


# Sockets.


def test_every_seat_has_sockets_of_its_own(equipment):
    given = {seat.name: equipment.descriptors(seat) for seat in seats()}
    assert {name: set(sockets) for name, sockets in given.items()} == {
        "keeper": {"ops", "keeper", "lock"},
        "portal": {"portal"},
        "worker-0": {"https", "http", "rates"},
        "worker-1": {"https", "http", "rates"},
    }
    # But for the table that all workers count in.
    assert given["worker-0"].pop("rates") == given["worker-1"].pop("rates")
    descriptors = [descriptor for sockets in given.values() for descriptor in sockets.values()]
    assert len(set(descriptors)) == len(descriptors)
    for descriptor in descriptors:
        assert os.get_inheritable(descriptor) is False


def test_they_answer_where_the_settings_say(place, equipment):
    listen = place.configuration().settings.listen
    for address in (listen.https, listen.http, listen.ops):
        socket.create_connection((address.host, address.port), 5).close()
    for name in ("portal", "keeper"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place.state_dir / "run" / f"{name}.sock"))


@pytest.mark.parametrize("name", ["https", "http", "ops"])
def test_an_address_that_is_taken_is_told_and_nothing_is_held(place, name):
    configuration = place.configuration()
    address = getattr(configuration.settings.listen, name)
    with socket.socket() as taken:
        # Even one that would share it: a second gateway must not take half of the connections.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((address.host, address.port))
        taken.listen()
        with pytest.raises(GatewayError, match=f"listen.{name}: .* can't be used: Address already in use"):
            Equipment.for_configuration(configuration)
    with Equipment.for_configuration(configuration):
        pass


def test_a_socket_that_a_crash_has_left_is_replaced(place):
    folder = place.state_dir / "run"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "keeper.sock"))
    with Equipment.for_configuration(place.configuration()), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "keeper.sock"))


def test_a_path_too_long_for_a_socket_is_told(place):
    place.edit(place.settings_path, "state_dir: state", f"state_dir: {'d' * 100}")
    with pytest.raises(GatewayError, match="state_dir is too long"):
        Equipment.for_configuration(place.configuration())


def test_renewed_equipment_has_the_same_sockets(place, equipment):
    renewed = equipment.renewed(place.configuration())
    assert [renewed.descriptors(seat) for seat in seats()] == [equipment.descriptors(seat) for seat in seats()]


def test_at_the_end_everything_is_let_go(place):
    configuration = place.configuration()
    for _ in range(2):
        with Equipment.for_configuration(configuration):
            pass


# Certificates.


def test_certificates_of_a_real_installation(place, equipment):
    (made,) = equipment.for_role("worker")["certificates"]
    (place.folder / "chain.pem").write_text(made["chain"])
    (place.folder / "key.pem").write_text(made["private_key"])
    place.edit(
        place.settings_path, "{local_ca: true}", "{certificates: [{certificate: chain.pem, private_key: key.pem}]}"
    )
    renewed = equipment.renewed(place.configuration())
    assert renewed.for_role("worker")["certificates"] == [made]
    (place.folder / "key.pem").write_text("nonsense")
    with pytest.raises(GatewayError, match="certificate"):
        equipment.renewed(place.configuration())
    (place.folder / "key.pem").unlink()
    with pytest.raises(GatewayError, match=r"tls\.certificates\[0\]: .*key\.pem: No such file"):
        equipment.renewed(place.configuration())


def test_every_host_that_is_served_has_its_name(place):
    assert certificate_names(place.configuration()) == [
        "btb.localhost", "*.btb.localhost", "orders.btb.localhost", "login.btb.localhost",
    ]  # fmt: skip


def test_workers_are_as_many_as_the_settings_say_or_as_there_are_cores(place):
    assert worker_count(place.configuration().settings) == 2
    place.edit(place.settings_path, "workers: 2", "workers: auto")
    assert worker_count(place.configuration().settings) == len(os.sched_getaffinity(0))


# The lock.


def test_only_one_works_on_a_state_folder(place):
    with StateLock(place.state_dir):
        with pytest.raises(GatewayError, match="another gateway is working on"), StateLock(place.state_dir):
            pass
        with pytest.raises(GatewayError, match="another gateway is working on"):
            Equipment.for_configuration(place.configuration())
    with StateLock(place.state_dir):
        pass


def test_the_lock_is_let_go_with_its_process_and_never_by_the_file(place):
    with StateLock(place.state_dir):
        pass
    assert (place.state_dir / "run" / "lock").exists()
    with (place.state_dir / "run" / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_makes_its_folders_private(place):
    before = os.umask(0)
    try:
        with StateLock(place.state_dir):
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (place.state_dir, place.state_dir / "run")]
    finally:
        os.umask(before)
    assert modes == [0o700, 0o700]


def test_a_state_folder_that_is_none_is_told(place):
    place.state_dir.write_text("a file")
    with pytest.raises(GatewayError, match=r"state_dir: .* can't be used"), StateLock(place.state_dir):
        pass
