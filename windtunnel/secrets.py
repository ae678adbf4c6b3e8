"""The platform's secrets: made once, at the first start, and kept below `home/secrets`; never committed, never printed.

`python -m windtunnel.secrets` makes those that containers need too. What is there is left as it is. There is a folder for each
reader, so that in containers each is a volume that nobody else mounts:

| folder | read by | holds |
|---|---|---|
| `secrets` | Airflow, the command line | keys, the user's password, how to reach its database and the broker |
| `secrets/mlflow` | MLflow | how to reach its database |
| `secrets/postgres` | PostgreSQL | its own password, and what makes the databases and their users at its first start |
| `secrets/redis` | Redis | its configuration |
| `secrets/speech` | the speech server | Airflow's user and password, to ask for runs |
"""

import base64
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from windtunnel.program import run_program
from windtunnel.settings import Settings, load_settings

USER = "admin"
OWNER = 0o600
FOLDER = 0o644  # the reader's user id is its image's own affair: the folder, a volume of its own, keeps others out


def secrets_folder(settings: Settings) -> Path:
    """The folder of the secrets, which only its owner can enter."""
    folder = settings.home / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def password_file(settings: Settings) -> Path:
    """Where Airflow's users and passwords are, as JSON."""
    return settings.home / "secrets" / "airflow-passwords.json"


def airflow_secrets(settings: Settings) -> dict[str, str]:
    """Airflow's secrets, as its environment variables; its users' passwords are in `password_file`."""
    folder = secrets_folder(settings)
    keep(password_file(settings), lambda: json.dumps({USER: secrets.token_urlsafe(12)}))
    return {
        "AIRFLOW__API__SECRET_KEY": keep(folder / "api-key", secrets.token_urlsafe),
        "AIRFLOW__API_AUTH__JWT_SECRET": keep(folder / "jwt-key", lambda: secrets.token_urlsafe(64)),
        "AIRFLOW__CORE__FERNET_KEY": keep(folder / "fernet-key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
    }


def make_container_secrets(settings: Settings) -> None:
    """What the containers need besides: of each server, the passwords that its clients show."""
    folder = secrets_folder(settings)
    keep(folder / "postgres" / "password", secrets.token_urlsafe, FOLDER)
    _make_database("airflow", folder / "pgpass", folder / "postgres")
    _make_database("mlflow", folder / "mlflow" / "pgpass", folder / "postgres")
    broker = keep(folder / "broker-url", lambda: f"redis://:{secrets.token_urlsafe()}@redis:6379/0")
    keep(folder / "redis" / "redis.conf", lambda: f"requirepass {urlsplit(broker).password}\nappendonly yes\n", FOLDER)
    passwords = password_file(settings).read_text()
    keep(folder / "speech" / password_file(settings).name, lambda: passwords)
    user, password = next(iter(json.loads(passwords).items()))
    keep(folder / "flower-auth", lambda: f"{user}:{password}")


def keep(file: Path, make: Callable[[], str], mode: int = OWNER) -> str:
    """The text of a file, made at the first call; whole or absent, and never replaced."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(make())
            os.chmod(beside, mode)
            with suppress(FileExistsError):  # another process was quicker: its text holds
                os.link(beside, file)
        finally:
            os.unlink(beside)
    return file.read_text()


def _make_database(name: str, pgpass: Path, server: Path) -> None:
    """A database's owner of the same name: its password for libpq in `pgpass`, and the SQL that creates both in `server`."""
    entry = keep(pgpass, lambda: f"postgres:5432:{name}:{name}:{secrets.token_urlsafe()}\n")
    password = entry.strip().rpartition(":")[2]
    keep(server / f"{name}.sql", lambda: f"CREATE ROLE {name} LOGIN PASSWORD '{password}';\nCREATE DATABASE {name} OWNER {name};\n", FOLDER)


def main() -> None:
    """Make the secrets that are missing."""
    settings = load_settings()
    airflow_secrets(settings)
    make_container_secrets(settings)


if __name__ == "__main__":
    run_program(main)
