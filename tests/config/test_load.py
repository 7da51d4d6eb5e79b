import hashlib

import pytest

from gateway.config.load import load_file, load_settings, master_key, resolve_secret
from gateway.config.read import LARGEST_FILE_BYTES
from gateway.config.schema import SecretSource, Settings
from gateway.foundation.errors import GatewayError, InvalidFile

TEXT = "domain: a.b\nmaster_key: {file: ../key}\ntls: {local_ca: true}\nnode: n1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text(TEXT)
    key = tmp_path / "key"
    key.write_bytes(b"k" * 40 + b"\n")
    key.chmod(0o600)
    return tmp_path


def test_loaded_settings_carry_text_and_digest(folder):
    loaded = load_settings(folder / "config" / "gateway.yaml")
    assert loaded.text == TEXT
    assert loaded.digest == hashlib.sha256(TEXT.encode()).hexdigest()
    assert loaded.settings.state_dir == folder / "config" / "var"
    assert loaded.settings.node == "n1"


def test_loading_makes_nothing(folder):
    load_settings(folder / "config" / "gateway.yaml")
    assert sorted(path.name for path in folder.rglob("*")) == ["config", "gateway.yaml", "key"]


def test_a_node_without_a_name_has_its_hosts(folder, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "host-7")
    (folder / "config" / "gateway.yaml").write_text(TEXT.replace("node: n1\n", ""))
    assert load_settings(folder / "config" / "gateway.yaml").settings.node == "host-7"


def test_a_relative_path_of_the_file_itself(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_settings(type(folder)("config/gateway.yaml")).settings.master_key.file == folder / "key"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"domain: \xff\xfe\n", "UTF-8"),
        (b"\xff\xfed\x00", "UTF-8"),
        (b"\xef\xbb\xbfdomain: a.b\n", "U+FEFF"),
        (b"domain: \xed\xa0\x80\n", "UTF-8"),
        (b"# " + b"x" * LARGEST_FILE_BYTES, "larger than 1 MiB"),
    ],
)
def test_hostile_files(folder, raw, words):
    path = folder / "bad.yaml"
    path.write_bytes(raw)
    with pytest.raises(InvalidFile, match=words.replace("+", r"\+")) as caught:
        load_file(path, Settings)
    assert caught.value.problems[0].file == str(path)


def test_a_byte_that_is_not_utf8_has_its_place(folder):
    path = folder / "bad.yaml"
    path.write_bytes(b"a: 1\nbc: \xff\n")
    with pytest.raises(InvalidFile) as caught:
        load_file(path, Settings)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (2, 5)


def test_files_that_cannot_be_read(folder):
    with pytest.raises(InvalidFile, match="no such file"):
        load_settings(folder / "nothing.yaml")
    with pytest.raises(InvalidFile, match="can't be read"):
        load_settings(folder)


def test_the_master_key_is_the_file_without_its_line_end(folder):
    settings = load_settings(folder / "config" / "gateway.yaml").settings
    assert master_key(settings).reveal() == b"k" * 40


def test_a_link_into_the_state_folder_is_no_place_for_the_master_key(folder):
    state = folder / "config" / "var"
    state.mkdir()
    (folder / "key").rename(state / "key")
    (folder / "key").symlink_to(state / "key")
    settings = load_settings(folder / "config" / "gateway.yaml").settings
    with pytest.raises(GatewayError, match="leads into the state folder"):
        master_key(settings)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"x" * 40, 0o644, "open to every user"),
        (b"x" * 40, 0o602, "open to every user"),
        (b"\n", 0o600, "empty"),
        (b"", 0o600, "empty"),
        (b"x" * 70000, 0o600, "larger"),
    ],
    ids=["readable", "writable", "only a line end", "nothing", "huge"],
)
@pytest.mark.requirement("ASVS 13.3.1")
def test_hostile_secret_files(tmp_path, content, mode, words):
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(GatewayError, match=words) as caught:
        resolve_secret(SecretSource(file=path))
    assert "xxx" not in str(caught.value)


def test_a_secret_that_is_not_there(tmp_path):
    with pytest.raises(GatewayError, match="can't be read: No such file"):
        resolve_secret(SecretSource(file=tmp_path / "nothing"))


def test_a_secret_in_the_environment():
    source = SecretSource(env="BTB_KEY")
    assert resolve_secret(source, {"BTB_KEY": "s3cret"}).reveal() == b"s3cret"
    for environment in ({}, {"BTB_KEY": ""}):
        with pytest.raises(GatewayError, match="BTB_KEY is not set"):
            resolve_secret(source, environment)
