import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from windtunnel.secrets import airflow_secrets, keep, make_container_secrets
from windtunnel.settings import Settings

CLIENTS = (
    *("api-key", "jwt-key", "fernet-key", "airflow-passwords.json", "pgpass", "broker-url", "flower-auth", "mlflow/pgpass"),
    "speech/airflow-passwords.json",
)
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


def test_each_reader_has_a_folder(settings):
    assert set(texts(settings)) == {*CLIENTS, *SERVERS}


def test_only_what_a_server_of_another_user_reads_is_readable_by_others(settings):
    folder = settings.home / "secrets"
    assert {(folder / name).stat().st_mode & 0o777 for name in CLIENTS} == {0o600}
    assert {(folder / name).stat().st_mode & 0o777 for name in SERVERS} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o700


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
    subprocess.run([sys.executable, "-m", "windtunnel.secrets"], env=settings.variables, check=True)
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
