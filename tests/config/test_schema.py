from pathlib import Path

import pytest

from gateway.config.check import validate
from gateway.config.parse import parse_yaml
from gateway.config.schema import Settings
from gateway.config.values import ListenAddress
from gateway.foundation.errors import InvalidFile

LEAST = {"domain": "btb.localhost", "master_key": "{file: /etc/btb/key}", "tls": "{local_ca: true}"}


def read(**sections: str) -> Settings:
    text = "".join(f"{key}: {value}\n" for key, value in (LEAST | sections).items())
    return validate(parse_yaml(text, "f"), Settings, {"folder": Path("/srv/btb/config")})


def told(**sections: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFile) as caught:
        read(**sections)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.requirement("ASVS 7.1.1", "SP 800-63B-4 2.2.3")
def test_defaults():
    settings = read()
    assert settings.state_dir == Path("/srv/btb/config/var")
    assert settings.policy == Path("/srv/btb/config/policy.yaml")
    assert str(settings.listen.https) == "0.0.0.0:8443"
    assert settings.listen.ops == ListenAddress("127.0.0.1", 9464)
    assert (settings.sessions.idle, settings.sessions.absolute) == (3600, 43200)
    assert settings.workers == "auto"
    assert settings.limits.body == 1 << 30


def test_paths_count_from_the_folder_of_the_file():
    settings = read(
        state_dir="../state",
        policy="/etc/btb/policy.yaml",
        tls="{certificates: [{certificate: tls/a.pem, private_key: ../a.key}], upstream_ca: ca.pem}",
    )
    assert settings.state_dir == Path("/srv/btb/state")
    assert settings.policy == Path("/etc/btb/policy.yaml")
    assert settings.tls.certificates[0].certificate == Path("/srv/btb/config/tls/a.pem")
    assert settings.tls.certificates[0].private_key == Path("/srv/btb/a.key")
    assert settings.tls.upstream_ca == Path("/srv/btb/config/ca.pem")


@pytest.mark.parametrize(
    ("listen", "public_port", "origin"),
    [
        ('"0.0.0.0:8443"', None, "https://login.btb.localhost:8443"),
        ('"0.0.0.0:443"', None, "https://login.btb.localhost"),
        ('"0.0.0.0:8443"', "443", "https://login.btb.localhost"),
        ('"[::]:443"', "8443", "https://login.btb.localhost:8443"),
    ],
)
def test_addresses_that_we_hand_out(listen, public_port, origin):
    extra = {"public_port": public_port} if public_port else {}
    settings = read(listen=f"{{https: {listen}}}", **extra)
    assert settings.origin(settings.login_host) == origin


@pytest.mark.parametrize(
    ("section", "value", "path", "words"),
    [
        ("version", "2", "version", "not a version"),
        ("version", "true", "version", "not a version"),
        ("domain", "https://a.b", "domain", "domain name"),
        ("domain", "a.b.", "domain", "domain name"),
        ("domain", '"a.b:8443"', "domain", "domain name"),
        ("domain", "-a.b", "domain", "domain name"),
        ("domain", "a_b.c", "domain", "domain name"),
        ("domain", '"*.a.b"', "domain", "domain name"),
        ("domain", '""', "domain", "domain name"),
        ("domain", "a..b", "domain", "domain name"),
        ("domain", '"a.b\\n"', "domain", "domain name"),
        ("domain", "a" * 64 + ".b", "domain", "domain name"),
        ("domain", "b." * 122 + "bb", "domain", "domain name"),
        ("domain", "10.0.0.1", "domain", "not an address"),
        ("domain", "büro.example", "domain", "ASCII"),
        ("domain", "5", "domain", "domain name"),
        ("master_key", "{}", "master_key", "one of file and env"),
        ("master_key", "{file: /k, env: K}", "master_key", "one of file and env"),
        ("master_key", "{env: 'A B'}", "master_key.env", "letters"),
        ("master_key", "{env: \"A\\n\"}", "master_key.env", "letters"),
        ("master_key", "{file: var/key}", "master_key", "inside state_dir"),
        ("master_key", "{file: ../config/var/x/key}", "master_key", "inside state_dir"),
        ("state_dir", "~/x", "state_dir", "~"),
        ("state_dir", '""', "state_dir", "path"),
        ("state_dir", '"a\\0b"', "state_dir", "path"),
        ("listen", "{https: ':8443'}", "listen.https", "IP address and a port"),
        ("listen", "{https: 'localhost:8443'}", "listen.https", "IP address and a port"),
        ("listen", "{https: 8443}", "listen.https", "IP address and a port"),
        ("listen", "{https: '0.0.0.0:0'}", "listen.https", "port 0"),
        ("listen", "{https: '0.0.0.0:65536'}", "listen.https", "port 65536"),
        ("listen", "{https: '0.0.0.256:80'}", "listen.https", "not an IP address"),
        ("listen", "{https: '::1:80'}", "listen.https", "IP address and a port"),
        ("listen", "{https: '[127.0.0.1]:80'}", "listen.https", "brackets"),
        ("listen", "{https: \"0.0.0.0:80\\n\"}", "listen.https", "IP address and a port"),
        ("listen", "{https: '0.0.0.0:٨٠'}", "listen.https", "IP address and a port"),
        ("listen", "{ops: '0.0.0.0:9464'}", "listen.ops", "this machine"),
        ("listen", "{ops: '10.0.0.1:9464'}", "listen.ops", "this machine"),
        ("listen", "{ops: '[::]:9464'}", "listen.ops", "this machine"),
        ("listen", "{http: '0.0.0.0:8443'}", "listen.http", "taken by listen.https"),
        ("listen", "{http: '[::]:8443'}", "listen.http", "taken by listen.https"),
        ("listen", "{ops: '127.0.0.1:8443'}", "listen.ops", "taken by listen.https"),
        ("listen", "{ops: '127.0.0.1:8080'}", "listen.ops", "taken by listen.http"),
        ("listen", "{proxied: {address: '10.0.0.5:8444'}}", "listen.proxied.from", "missing"),
        ("listen", "{proxied: {from: ['10.0.0.5']}}", "listen.proxied.address", "missing"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: []}}", "listen.proxied.from", "needs a list"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: '10.0.0.5'}}", "listen.proxied.from", "needs a list"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: [5]}}", "listen.proxied.from", "needs a list"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: ['0.0.0.0/0']}}", "listen.proxied.from", "every"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: ['::/0']}}", "listen.proxied.from", "every address"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: ['::ffff:0:0/96']}}", "listen.proxied.from", "IPv4"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: ['10.0.0.5/8']}}", "listen.proxied.from", "host bits"),
        ("listen", "{proxied: {address: '10.0.0.5:8444', from: [balancer]}}", "listen.proxied.from", "no address"),
        ("listen", "{proxied: {address: '10.0.0.5:8443', from: ['10.0.0.5']}}", "listen.proxied", "by listen.https"),
        ("listen", "{proxied: {address: '10.0.0.5:8080', from: ['10.0.0.5']}}", "listen.proxied", "by listen.http"),
        ("listen", "{proxied: {address: '[::]:9464', from: ['10.0.0.5']}}", "listen.ops", "taken by listen.proxied"),
        ("workers", "0", "workers", "1 to 256"),
        ("workers", "257", "workers", "1 to 256"),
        ("workers", "true", "workers", "1 to 256"),
        ("workers", "many", "workers", "1 to 256"),
        ("tls", "{}", "tls", "one of local_ca"),
        ("tls", "{certificates: []}", "tls", "one of local_ca"),
        ("tls", "{local_ca: true, certificates: [{certificate: a, private_key: b}]}", "tls", "one of local_ca"),
        ("tls", "{certificates: [{certificate: a}]}", "tls.certificates[0].private_key", "missing"),
        ("store", "postgresql://u:p@h/d", "store", "not supported yet"),
        ("store", "mysql", "store", "name of a store"),
        ("sessions", "{idle: 13h}", "sessions.idle", "longer than sessions.absolute"),
        ("sessions", "{absolute: 25h}", "sessions.absolute", "not between 1m and 24h"),
        ("sessions", "{idle: 0s}", "sessions.idle", "not between"),
        ("public_port", "0", "public_port", "at least 1"),
        ("public_port", "65536", "public_port", "at most 65535"),
        ("limits", "{body: 100}", "limits.body", "needs a size"),
        ("limits", "{body: 10MB}", "limits.body", "needs a size"),
        ("limits", "{connections: 1}", "limits.connections", "at least 16"),
        ("timeouts", "{head: 10}", "timeouts.head", "not a length of time"),
        ("timeouts", "{head: -1s}", "timeouts.head", "not a length of time"),
        ("timeouts", "{drain: 2h}", "timeouts.drain", "not between"),
        ("snapshots", "{keep: 0}", "snapshots.keep", "at least 1"),
        ("audit", "{witnesses: {}}", "audit.witnesses", "needs a list"),
        ("audit", "{witnesses: [{}]}", "audit.witnesses[0]", "one of folder, syslog and https"),
        ("audit", "{witnesses: [{folder: /mnt, https: 'https://a/'}]}", "audit.witnesses[0]", "one of folder"),
        ("audit", "{witnesses: [{folder: var/x}]}", "audit.witnesses[0].folder", "inside state_dir"),
        ("audit", "{witnesses: [{folder: /mnt, ca: /ca.pem}]}", "audit.witnesses[0].ca", "for syslog and https"),
        ("audit", "{witnesses: [{folder: /mnt, token: {env: T}}]}", "audit.witnesses[0].token", "for https only"),
        ("audit", "{witnesses: [{syslog: 'tls://a', token: {env: T}}]}", "audit.witnesses[0].token", "for https only"),
        ("audit", "{witnesses: [{https: 'https://a', token: {}}]}", "audit.witnesses[0].token", "one of file and env"),
        ("audit", "{witnesses: [{syslog: 'tls://a', private_key: /k}]}", "audit.witnesses[0]", "needs both"),
        ("audit", "{witnesses: [{syslog: 'tcp://a:6514'}]}", "audit.witnesses[0].syslog", "begins with tls://"),
        ("audit", "{witnesses: [{syslog: 'tls://'}]}", "audit.witnesses[0].syslog", "begins with tls://"),
        ("audit", "{witnesses: [{syslog: 'tls://a:0'}]}", "audit.witnesses[0].syslog", "begins with tls://"),
        ("audit", "{witnesses: [{syslog: 'tls://a:70000'}]}", "audit.witnesses[0].syslog", "begins with tls://"),
        ("audit", "{witnesses: [{syslog: 'tls://a:6514/x'}]}", "audit.witnesses[0].syslog", "nothing after them"),
        ("audit", "{witnesses: [{syslog: 6514}]}", "audit.witnesses[0].syslog", "begins with tls://"),
        ("audit", "{witnesses: [{https: 'http://a/'}]}", "audit.witnesses[0].https", "begins with https://"),
        ("audit", "{witnesses: [{https: 'https://u:p@a/'}]}", "audit.witnesses[0].https", "neither a user"),
        ("audit", "{witnesses: [{https: 'https://a/#x'}]}", "audit.witnesses[0].https", "neither a user"),
        ("audit", "{witnesses: [{https: \"https://a/\\n\"}]}", "audit.witnesses[0].https", "begins with https://"),
        ("audit", "{witnesses: [{https: 'https://[a/'}]}", "audit.witnesses[0].https", "begins with https://"),
        ("audit", "{witnesses: [{folder: /mnt}, {folder: /mnt/}]}", "audit.witnesses[1]", "is there twice"),
        ("node", "a/b", "node", "letters"),
        ("log_level", "trace", "log_level", "must be 'debug'"),
    ],
)  # fmt: skip
@pytest.mark.requirement("ASVS 7.1.1", "SP 800-63B-4 2.2.3")
def test_hostile_values(section, value, path, words):
    ((told_path, message),) = told(**{section: value})
    assert told_path == path
    assert words in message


@pytest.mark.parametrize("section", ["version", "domain", "master_key", "tls", "listen", "sessions", "limits", "store"])
def test_an_empty_section_is_a_problem_and_never_a_default(section):
    assert [path for path, _ in told(**{section: ""})] == [section]


def test_witnesses():
    folder, syslog, https = read(
        audit="{witnesses: [{folder: ../mnt}, {syslog: 'tls://[::1]', ca: ca.pem, certificate: c, private_key: k}, "
        "{https: 'https://a.example:8443/put?x=1', token: {env: TOKEN}}]}"
    ).audit.witnesses
    assert folder.folder == Path("/srv/btb/mnt")
    assert (syslog.syslog.host, syslog.syslog.port, syslog.ca) == ("::1", 6514, Path("/srv/btb/config/ca.pem"))
    assert https.https == "https://a.example:8443/put?x=1"
    assert [each.name for each in (folder, syslog, https)] == [
        "/srv/btb/mnt",
        "tls://[::1]:6514",
        "https://a.example:8443/put",
    ]


@pytest.mark.advisory("CVE-2026-76835", "CVE-2024-45806")
def test_nobody_is_believed_who_is_not_named():
    assert read().listen.proxied is None
    settings = read(listen='{proxied: {address: "10.0.0.5:8444", from: ["10.0.0.7", "2001:db8::/64"]}}')
    assert list(map(str, settings.listen.proxied.trusted)) == ["10.0.0.7/32", "2001:db8::/64"]
    assert list(settings.listen.of_workers) == ["https", "http", "proxied"]


def test_listeners_on_one_port_of_different_addresses_are_fine():
    settings = read(listen='{https: "10.0.0.1:443", http: "10.0.0.2:443", ops: "[::1]:443"}')
    assert str(settings.listen.ops) == "[::1]:443"


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        read().domain = "other"
