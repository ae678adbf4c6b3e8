"""Create the platform's secrets and read them. They are created at the first start, below `home/secrets`, and never committed or printed.

`python -m windtunnel.platform.secrets` also creates the secrets that containers need. It leaves existing secrets unchanged. Each reader
has a folder of its own, so that in containers each folder is a volume that no other container mounts:

| folder | read by | holds |
|---|---|---|
| `secrets` | Airflow, the command line | keys, also the private one, passwords, the credentials of Airflow's database and the broker |
| `secrets/release` | what releases versions, TorchServe | the public key, which verifies versions that the private key signed |
| `secrets/mlflow` | MLflow | the credentials of its database |
| `secrets/postgres` | PostgreSQL | its own password, and the SQL that creates the databases and their users at the first start |
| `secrets/redis` | Redis | its configuration |
| `secrets/speech` | the speech server | Airflow's user and password, with which it triggers runs; the public key |
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

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.platform.program import run_program
from windtunnel.settings import Settings, load_settings

USER = "admin"
OWNER = 0o600
PUBLIC_KEY = "signing-key.pub"
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those of model-signing: P-256, P-384, P-521
FOLDER = 0o644  # each image chooses its own user id, so the file is readable by all; the folder is a volume that only one reader mounts


def secrets_folder(settings: Settings) -> Path:
    """Return the folder of the secrets, which only its owner can enter. Create it if it is missing."""
    folder = settings.home / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def password_file(settings: Settings) -> Path:
    """Return the JSON file of Airflow's users and passwords."""
    return settings.home / "secrets" / "airflow-passwords.json"


def airflow_password(settings: Settings) -> str:
    """Return the password of `USER` in Airflow.

    Raises:
        WindtunnelError: there is no platform, or the file of passwords has none for the user.
    """
    file = password_file(settings)
    try:
        return password_of(USER, file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise WindtunnelError(f"there is no platform in {settings.home}: start one with `windtunnel up`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WindtunnelError(f"{file} has no password for user {USER} ({error!r}): remove the file and restart the platform") from error


def password_of(user: str, passwords: str) -> str:
    """Return a user's password from Airflow's JSON of users and passwords.

    Raises:
        ValueError, TypeError: `passwords` is not such a JSON object.
        KeyError: the user is not in it.
    """
    return json.loads(passwords)[user]


def airflow_secrets(settings: Settings) -> dict[str, str]:
    """Return Airflow's secrets as environment variables. The passwords of its users are in `password_file`."""
    folder = secrets_folder(settings)
    keep(password_file(settings), lambda: json.dumps({USER: secrets.token_urlsafe(12)}))
    _add_passwords(settings)
    return {
        "AIRFLOW__API__SECRET_KEY": keep(folder / "api-key", secrets.token_urlsafe),
        "AIRFLOW__API_AUTH__JWT_SECRET": keep(folder / "jwt-key", lambda: secrets.token_urlsafe(64)),
        "AIRFLOW__CORE__FERNET_KEY": keep(folder / "fernet-key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
    }


def _add_passwords(settings: Settings) -> None:
    """Create the passwords of the users that have none yet. Airflow would create them, too, but print them to its log."""
    file = password_file(settings)
    with suppress(ValueError):  # Airflow says what is wrong with the file
        passwords = json.loads(file.read_text())
        names = [entry.partition(":")[0] for entry in settings.users.split(",")]
        if missing := [name for name in names if name not in passwords]:
            beside = file.with_name(f".{file.name}.{os.getpid()}")
            beside.unlink(missing_ok=True)
            keep(beside, lambda: json.dumps(passwords | {name: secrets.token_urlsafe(12) for name in missing}))
            beside.replace(file)


def signing_key(settings: Settings) -> Path:
    """Return the file of the private key that signs versions."""
    return settings.signing_key or settings.home / "secrets" / "signing-key.pem"


def public_key(settings: Settings) -> Path:
    """Return the file of the public key that verifies versions."""
    return settings.public_key or settings.home / "secrets" / PUBLIC_KEY


def make_signing_key(settings: Settings) -> bytes:
    """Create the private key that signs versions, unless there is one, and write its public key beside it; return the public key.

    Raises:
        WindtunnelError: the private key that there is cannot be used, or was lost: no other is created in its place.
    """
    file, known = signing_key(settings), settings.home / "secrets" / PUBLIC_KEY
    if settings.signing_key is None:
        if known.exists() and not file.exists():
            step = (
                f"Restore it from a backup, or remove {PUBLIC_KEY} too, for a new key with which you sign all versions that have an alias"
            )
            raise WindtunnelError(f"the key that signs versions was lost: expected {file}, the private part of {known.name}. {step}")
        keep(file, _new_key)
    public = _public_part(file)
    _write(secrets_folder(settings) / PUBLIC_KEY, public)
    return public


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def _public_part(file: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
            raise ValueError("another kind of key")
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        expected = "expected a PEM file with a private key of P-256, P-384 or P-521, without a password"
        make = f"Make one: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file.name}`"
        raise WindtunnelError(f"{file} cannot sign versions ({error}): {expected}. {make}") from error
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write(file: Path, content: bytes) -> None:
    """Write a file that everybody may read, unless it has this content."""
    if not file.exists() or file.read_bytes() != content:
        write_atomically(file, content)


def make_container_secrets(settings: Settings) -> None:
    """Create the additional secrets of the containers: the credentials that each server shares with its clients."""
    folder = secrets_folder(settings)
    keep(folder / "postgres" / "password", secrets.token_urlsafe, FOLDER)
    _make_database("airflow", folder / "pgpass", folder / "postgres")
    _make_database("mlflow", folder / "mlflow" / "pgpass", folder / "postgres")
    broker = keep(folder / "broker-url", lambda: f"redis://:{secrets.token_urlsafe()}@redis:6379/0")
    keep(folder / "redis" / "redis.conf", lambda: f"requirepass {urlsplit(broker).password}\nappendonly yes\n", FOLDER)
    password = airflow_password(settings)
    keep(folder / "speech" / password_file(settings).name, lambda: json.dumps({USER: password}))
    keep(folder / "flower-auth", lambda: f"{USER}:{password}")
    public = make_signing_key(settings)
    for reader in ("release", "speech"):
        _write(folder / reader / PUBLIC_KEY, public)


def keep(file: Path, make: Callable[[], str], mode: int = OWNER) -> str:
    """Return the text of a file. The first call creates it, atomically, with the result of `make`; later calls never replace it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(make())
            os.chmod(beside, mode)
            with suppress(FileExistsError):  # another process created it first: use its text
                os.link(beside, file)
        finally:
            os.unlink(beside)
    return file.read_text()


def _make_database(name: str, pgpass: Path, server: Path) -> None:
    """Create the secrets of a database and its owner, both `name`: libpq's password file `pgpass`, and SQL in the folder `server`."""
    entry = keep(pgpass, lambda: f"postgres:5432:{name}:{name}:{secrets.token_urlsafe()}\n")
    password = entry.strip().rpartition(":")[2]
    keep(server / f"{name}.sql", lambda: f"CREATE ROLE {name} LOGIN PASSWORD '{password}';\nCREATE DATABASE {name} OWNER {name};\n", FOLDER)


def main() -> None:
    """Create the secrets that are missing."""
    settings = load_settings()
    airflow_secrets(settings)
    make_container_secrets(settings)


if __name__ == "__main__":
    run_program(main)
