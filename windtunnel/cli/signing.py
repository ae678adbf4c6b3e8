"""The commands `sign` and `verify`."""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.cli.output import Json, print_json
from windtunnel.errors import WindtunnelError

if TYPE_CHECKING:  # imported where they are used: `windtunnel --help` answers at once
    from collections.abc import Iterator

    from windtunnel.registered import RegisteredVersion
    from windtunnel.settings import Settings

REFERENCE = "NAME[@VERSION|@ALIAS]"


def sign(
    version: Annotated[str, typer.Argument(help="The version; NAME alone is the newest one.", metavar=REFERENCE)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a version that has no signature, such as one from before versions were signed. Its files are checked first.

    A signature says that you know where the version comes from: it is shown, and you are asked.
    """
    from windtunnel.settings import load_settings
    from windtunnel.signatures import sign_registered

    settings = load_settings()
    with _fetched(settings, version) as (known, directory):
        if not yes:
            _ask(known)
        registration = sign_registered(settings, known.name, known.version, directory, known.dag_run)
    if as_json:
        print_json(registration.model_dump())
        return
    print(f"Signed: {registration}, {known.measured}, from {registration.dag_run}, manifest SHA-256\n{registration.manifest_sha256}")
    if {"champion", "previous"} & set(known.aliases):
        print(f"It is {' and '.join(known.aliases)}: `{settings.command} reconcile` loads it where it is missing.")


def verify(
    version: Annotated[str, typer.Argument(help="A version in the registry, or a directory.", metavar=f"{REFERENCE}|DIRECTORY")],
    key: Annotated[Path | None, typer.Option(help="The public key, a PEM file. Default: the platform's.")] = None,
    as_json: Json = False,
) -> None:
    """Check a version's files, its signature, and as what it was registered. A directory is checked without the network."""
    from windtunnel import signatures
    from windtunnel.settings import load_settings

    settings = load_settings()
    key = key or signatures.trusted_key(settings)
    if (directory := Path(version)).is_dir():
        found = signatures.verify(directory, key)
    elif "@" in version or "/" not in version:
        with _fetched(settings, version) as (known, directory):
            found = signatures.verify(directory, key, (known.name, known.version))
    else:
        raise WindtunnelError(f"{version} is not a directory: expected one, or a version such as lenet5-pytorch@3")
    files, registration = len(found.manifest.files), found.registration
    if as_json:
        print_json({**registration.model_dump(), "files": files, "key": found.key})
        return
    print(f"{registration} is whole and signed.")
    print(f"files         {files}, with the SHA-256 that the manifest says, and no others")
    print(f"manifest      SHA-256 {registration.manifest_sha256}")
    print(f"signature     of all files, the manifest and the registration, valid\nkey           SHA-256 {found.key}")
    print(f"registration  {registration}, from {registration.dag_run}")


def _ask(known: "RegisteredVersion") -> None:
    """Show where a version comes from, on stderr, and ask whether to sign it.

    Raises:
        WindtunnelError: the answer is no, or nobody can be asked.
    """
    print(f"{known.name} version {known.version}, {known.measured}, created {known.created:%Y-%m-%d %H:%M} UTC", file=sys.stderr)
    print(f"aliases       {', '.join(known.aliases) or 'none'}\nDAG run       {known.dag_run}", file=sys.stderr)
    print(f"MLflow run    {known.mlflow_run}\nmanifest      SHA-256 {known.manifest_sha256}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise WindtunnelError("there is no terminal to ask on whether to sign it: look at it, then add --yes")
    if not typer.confirm("Do you know that this run made it, and sign it?", err=True):
        raise WindtunnelError(f"{known.name} version {known.version} was not signed")


@contextmanager
def _fetched(settings: "Settings", reference: str) -> "Iterator[tuple[RegisteredVersion, Path]]":
    """Download a version from the registry for as long as the context lasts, and check its files against what was registered."""
    from windtunnel.cli.connection import connected

    with connected(settings) as mlflow, tempfile.TemporaryDirectory() as place:
        from windtunnel import registry

        known, directory = registry.resolve(mlflow, reference), Path(place) / "version"
        registry.fetch(mlflow, known, directory)
        yield known, directory
