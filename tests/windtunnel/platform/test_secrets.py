import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import serialization

from windtunnel.errors import WindtunnelError
from windtunnel.platform.secrets import airflow_secrets, keep, make_container_secrets, make_signing_key
from windtunnel.settings import Settings

CLIENTS = (
    *("api-key", "jwt-key", "fernet-key", "airflow-passwords.json", "pgpass", "broker-url", "flower-auth", "mlflow/pgpass"),
    *("speech/airflow-passwords.json", "signing-key.pem"),
)
PUBLIC = ("signing-key.pub", "release/signing-key.pub", "speech/signing-key.pub")
SERVERS = ("postgres/password", "postgres/airflow.sql", "postgres/mlflow.sql", "redis/redis.conf")


def texts(settings):
    folder = settings.home / "secrets"
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def settings(tmp_path):
    settings = Settings(home=tmp_path / "home")
    airflow_secrets(settings)
    make_container_secrets(settings)
    return settings


def test_users_that_are_added_get_passwords_and_the_others_keep_theirs(settings):
    before = texts(settings)
    more = settings.model_copy(update={"users": "admin:admin,ada:viewer,grace:user"})
    airflow_secrets(more)
    make_container_secrets(more)
    after = texts(more)
    passwords = json.loads(after.pop("airflow-passwords.json"))
    assert list(passwords) == ["admin", "ada", "grace"]
    assert len(set(passwords.values())) == 3
    assert passwords["admin"] == json.loads(before.pop("airflow-passwords.json"))["admin"]
    assert after == before  # no other server learns the new passwords
    assert (more.home / "secrets" / "airflow-passwords.json").stat().st_mode & 0o777 == 0o600
    airflow_secrets(more)
    assert json.loads(texts(more)["airflow-passwords.json"]) == passwords


def test_each_reader_has_a_folder(settings):
    assert set(texts(settings)) == {*CLIENTS, *SERVERS, *PUBLIC}


def test_only_what_a_server_of_another_user_reads_is_readable_by_others(settings):
    folder = settings.home / "secrets"
    assert {(folder / name).stat().st_mode & 0o777 for name in CLIENTS} == {0o600}
    assert {(folder / name).stat().st_mode & 0o777 for name in SERVERS} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_only_the_private_key_is_a_secret_and_every_verifier_has_the_public_one(settings):
    found = texts(settings)
    (public,) = {found[name] for name in PUBLIC}
    private = serialization.load_pem_private_key(found["signing-key.pem"].encode(), None)
    assert private.public_key() == serialization.load_pem_public_key(public.encode())
    assert [name for name, text in found.items() if "PRIVATE KEY" in text] == ["signing-key.pem"]


def test_a_key_of_ones_own_is_used_as_it_is(tmp_path):
    mine = tmp_path / "mine.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", mine], check=True)
    public = make_signing_key(Settings(home=tmp_path / "home", signing_key=mine))
    made = subprocess.run(["openssl", "pkey", "-in", mine, "-pubout"], capture_output=True, check=True).stdout
    assert public == made == (tmp_path / "home/secrets/signing-key.pub").read_bytes()
    assert not (tmp_path / "home/secrets/signing-key.pem").exists()


def test_a_lost_private_key_is_said_and_no_other_takes_its_place(settings):
    folder = settings.home / "secrets"
    public = (folder / "signing-key.pub").read_bytes()
    (folder / "signing-key.pem").unlink()
    with pytest.raises(WindtunnelError, match=rf"was lost: expected {folder}/signing-key\.pem, .* Restore it .* remove signing-key\.pub "):
        make_signing_key(settings)
    assert not (folder / "signing-key.pem").exists()
    assert (folder / "signing-key.pub").read_bytes() == public
    (folder / "signing-key.pub").unlink()
    assert make_signing_key(settings) != public


@pytest.mark.parametrize("command", ["openssl genrsa 2048", "openssl genpkey -algorithm ED25519", "echo a key"])
def test_another_kind_of_key_is_refused_with_the_next_step(tmp_path, command):
    mine = tmp_path / "mine.pem"
    mine.write_bytes(subprocess.run(command.split(), capture_output=True, check=True).stdout)
    with pytest.raises(WindtunnelError, match=r"mine\.pem cannot sign versions .* expected a PEM file .* Make one: `openssl genpkey "):
        make_signing_key(Settings(home=tmp_path / "home", signing_key=mine))


def test_client_and_server_have_the_same_password(settings):
    found = texts(settings)
    for database, pgpass in (("airflow", "pgpass"), ("mlflow", "mlflow/pgpass")):
        password = re.fullmatch(rf"postgres:5432:{database}:{database}:(.{{40,}})\n", found[pgpass])[1]
        assert f"'{password}'" in found[f"postgres/{database}.sql"]
        assert password not in "".join(text for name, text in found.items() if name not in (pgpass, f"postgres/{database}.sql"))
    password = re.fullmatch(r"redis://:(.{40,})@redis:6379/0", found["broker-url"])[1]
    assert f"requirepass {password}\n" in found["redis/redis.conf"]


def test_the_program_makes_what_is_missing_and_changes_nothing_else(settings):
    before = texts(settings)
    (settings.home / "secrets" / "postgres" / "mlflow.sql").unlink()
    (settings.home / "secrets" / "jwt-key").unlink()
    subprocess.run([sys.executable, "-m", "windtunnel.platform.secrets"], env=settings.variables, check=True)
    after = texts(settings)
    assert {name for name in before if after[name] != before[name]} == {"jwt-key"}
    assert set(after) == set(before)


def test_of_many_processes_at_once_all_read_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda number: keep(tmp_path / "secret", lambda: str(number)), range(64)))) == 1


def test_a_secret_that_cannot_be_made_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        keep(tmp_path / "secret", lambda: str(1 // 0))
    assert list(tmp_path.iterdir()) == []
