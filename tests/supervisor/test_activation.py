"""Sockets that were made before the gateway started."""

import os
import socket
import tempfile
from contextlib import ExitStack, suppress

import pytest

from gateway.config.values import ListenAddress
from gateway.foundation.errors import GatewayError
from gateway.supervisor import activation
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.roster import Roster

LOCAL = "127.0.0.1"


@pytest.fixture
def held():
    """Three sockets as systemd would hold them, on descriptors that follow each other."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server((LOCAL, 0))) for _ in range(3)]
        first = 1 + max(map(int, os.listdir("/proc/self/fd")))
        for place, each in enumerate(made, first):
            os.dup2(each.fileno(), place)
        yield first
        for place in range(first, first + 3):
            with suppress(OSError):
                os.close(place)


def address(descriptor):
    with socket.socket(fileno=os.dup(descriptor)) as held:
        return ListenAddress(*held.getsockname()[:2])


def told(count, names=None, pid=None):
    environment = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "PATH": "/bin"}
    return environment if names is None else environment | {"LISTEN_FDNAMES": names}


def take(environment, first, **wanted):
    taken = activation.take(environment, wanted, first)
    return {name: each.detach() for name, each in taken.items()}


@pytest.mark.parametrize("names", [None, "btb-gateway.socket:btb-gateway.socket", "http:https", "http"])
def test_each_is_known_by_its_name_or_its_address(held, names):
    environment = told(2, names)
    assert take(environment, held, https=address(held + 1), http=address(held)) == {"http": held, "https": held + 1}
    assert environment == {"PATH": "/bin"}
    assert not os.get_inheritable(held)
    assert not os.get_inheritable(held + 1)


def test_what_is_meant_for_another_process_is_left_alone_and_not_told_on(held):
    environment = told(1, pid=1)
    assert take(environment, held, https=address(held)) == {}
    assert environment == {"PATH": "/bin"}


def test_a_name_does_not_make_up_for_another_address(held):
    with pytest.raises(GatewayError, match=r"listen\.https: .* in the settings, but the socket passed for it is"):
        activation.take(told(1, "https"), {"https": address(held + 1), "http": address(held)}, held)


def test_an_address_that_is_not_in_the_settings_is_refused(held):
    with pytest.raises(GatewayError, match="which is no address of `listen`"):
        activation.take(told(1), {"https": address(held + 1)}, held)


def test_one_listener_takes_one_socket(held):
    os.dup2(held, held + 1)
    with pytest.raises(GatewayError, match="two sockets were passed"):
        activation.take(told(2), {"https": address(held)}, held)


@pytest.mark.parametrize("count", ["-1", "x", "1 ", "99999", "²"])
def test_a_count_that_is_none_is_refused(held, count):
    with pytest.raises(GatewayError, match="is not a number"):
        activation.take(told(count), {}, held)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "no TCP socket"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), "no TCP socket"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), "does not listen"),
        (tempfile.TemporaryFile, "is no socket"),
    ],
)
def test_what_is_no_listening_socket_is_refused(held, make, said):
    with make() as other:
        os.dup2(other.fileno(), held)
    with pytest.raises(GatewayError, match=said):
        activation.take(told(1), {}, held)


def test_all_workers_share_the_one_that_was_passed(place, held, monkeypatch):
    configuration = place.configuration()
    wanted = configuration.settings.listen.https
    with socket.create_server((wanted.host, wanted.port)) as made:
        os.dup2(made.fileno(), held)
    monkeypatch.setattr(activation.take, "__defaults__", (held,))
    for name, value in told(1, "https").items():
        monkeypatch.setenv(name, value)
    with Equipment.for_configuration(configuration) as equipment:
        workers = [equipment.descriptors(seat) for seat in Roster(2).seats if seat.role == "worker"]
        assert {each["https"] for each in workers} == {held}
        assert len({each["http"] for each in workers}) == len(workers)
    assert "LISTEN_FDS" not in os.environ


def test_the_listener_behind_balancers_is_one_of_them(place, held, monkeypatch):
    wanted = address(held)
    proxied = f'listen: {{proxied: {{address: "{wanted}", from: ["10.0.0.5"]}}, '
    place.edit(place.settings_path, "listen: {", proxied)
    monkeypatch.setattr(activation.take, "__defaults__", (held,))
    for name, value in told(1).items():
        monkeypatch.setenv(name, value)
    with Equipment.for_configuration(place.configuration()) as equipment:
        workers = [equipment.descriptors(seat) for seat in Roster(2).seats if seat.role == "worker"]
        assert [each["proxied"] for each in workers] == [held, held]
