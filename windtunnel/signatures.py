"""Sign versions when they are registered, and verify them before they are published: what the registry says is not enough.

A registered version has two files more than its trainer wrote. `registration.json` says under which name and number it was registered.
`model.sig` is a signature over all other files of the version, in the format of OpenSSF Model Signing, with an elliptic-curve key:

    model_signing verify key VERSION --signature VERSION/model.sig --public_key .windtunnel/secrets/signing-key.pub

The library is imported only where something is signed or verified, which takes half a second.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.aliases import Aliases
from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.files import sha256, write_atomically, write_json
from windtunnel.manifest import MANIFEST, REGISTRATION, SIGNATURE, Manifest, verify_version
from windtunnel.model import find_model
from windtunnel.platform.secrets import PUBLIC_KEY, public_key, signing_key
from windtunnel.settings import Settings
from windtunnel.spec import first_problem

_DIFFERENT = re.compile(r"for \\*'([^'\\]+)\\*': Expected|(?:Extra|Missing) files[^:]*: ([^'\"\\]+)")
"""The names of files in the library's error, between digests as Python writes bytes."""

DISTRUST = "Do not use this version; train a new one"


class SignatureError(VersionError):
    """A version's signature is missing, foreign or broken."""


class Registration(BaseModel):
    """The content of `registration.json`: as what a version was registered, the SHA-256 of its manifest, and the run that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    manifest_sha256: str
    dag_run: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class Verified:
    """What was found by verifying a version. `key` is the fingerprint of the public key."""

    manifest: Manifest
    registration: Registration
    key: str


def sign_registered(settings: Settings, name: str, number: int, directory: Path, dag_run: str) -> Registration:
    """Sign the version in `directory`, which is registered under this name and number, and store the signature in the registry.

    What is checked, signed and stored is a copy; `directory` is left as it is. It can be repeated: a new signature replaces the old one.

    Raises:
        WindtunnelError: the version is another than the registered one, the key cannot be used, or the registry does not answer.
    """
    registry = Aliases(settings)
    known = registry.version(name, number)
    if not (key := signing_key(settings)).exists():
        raise WindtunnelError(f"the key that signs versions is missing: expected {key}. Start the platform, which makes it")
    with _private_copy(directory) as copy:
        manifest, digest = verify_version(copy), sha256(copy / MANIFEST)
        own = find_model(manifest.model).registered_name(manifest.framework)
        if (own, digest) != (name, known.manifest_sha256):
            found = f"{directory} is a version of {own} whose manifest has SHA-256 {digest}"
            raise WindtunnelError(f"{found}, but {name} version {number} was registered with {known.manifest_sha256}. {DISTRUST}")
        registration = Registration(name=name, version=number, manifest_sha256=digest, dag_run=dag_run)
        if (copy / REGISTRATION).exists() and (other := _read(copy, str(directory))).version != number:
            raise WindtunnelError(f"{name} version {number} has the files of {other}, which are signed as that. {DISTRUST}")
        sign(copy, registration, key)
        registry.attach(known, copy / REGISTRATION, copy / SIGNATURE)
    return registration


@contextmanager
def _private_copy(directory: Path) -> Iterator[Path]:
    """Copy a version to where nobody else can write, for as long as the context lasts.

    Whoever can write to the folder of a run could change files while they are checked and signed, or put a link there, through which this
    process would read what only it can read, such as the private key.
    """
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "version"
        for folder, _, names, descriptor in os.fwalk(directory):  # follows no link
            target = copy / Path(folder).relative_to(directory)
            target.mkdir()
            for name in names:
                try:
                    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=descriptor)
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                    raise WindtunnelError(f"{folder}/{name} is a link, which no trainer makes: it is not signed. {DISTRUST}") from error
                with open(opened, "rb") as source, (target / name).open("xb") as sink:
                    shutil.copyfileobj(source, sink)
        yield copy


def sign(directory: Path, registration: Registration, key: Path) -> None:
    """Write the registration and the signature of a version. `key` is the file of the private key.

    Raises:
        WindtunnelError: the version has a symbolic link, or what else is neither a file nor a folder.
    """
    from model_signing import hashing, signing

    write_json(directory / REGISTRATION, registration.model_dump())
    config = signing.Config().use_elliptic_key_signer(private_key=key)  # `make_signing_key` has checked the key
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False))
    with tempfile.TemporaryDirectory() as place:
        try:
            config.sign(directory, Path(place) / SIGNATURE)
        except ValueError as error:
            raise WindtunnelError(f"{directory} cannot be signed: {error} Train the version again") from error
        write_atomically(directory / SIGNATURE, (Path(place) / SIGNATURE).read_bytes())


def verify(directory: Path, key: Path, expected: tuple[str, int] | None = None) -> Verified:
    """Verify a version: its files against its manifest, the signature over all of them, and what it was registered as.

    Args:
        directory: the version.
        key: the file of the public key that has to have signed it.
        expected: the name and the number under which the registry has it; None to accept any.

    Raises:
        SignatureError: the signature is missing, foreign or broken, or it was registered as another version.
        VersionError: a file differs from the manifest.
        WindtunnelError: the key cannot be used.
    """
    manifest = verify_version(directory)
    what, reference = str(directory), f"{find_model(manifest.model).registered_name(manifest.framework)}@VERSION"
    if expected:
        what, reference = f"{expected[0]} version {expected[1]}", f"{expected[0]}@{expected[1]}"
    if not (directory / SIGNATURE).exists():
        why = f"{SIGNATURE} is missing, as in versions from before there were signatures"
        raise SignatureError(f"{what} is not signed: {why}. If you know where it comes from, sign it: `windtunnel sign {reference}`")
    wanted, found = fingerprint(key), _signer(directory / SIGNATURE)
    if found != wanted:
        step = f"{DISTRUST}. If the key was replaced on purpose, sign the version again: `windtunnel sign {reference}`"
        raise SignatureError(f"{what} was signed with another key: found {found}, expected {wanted} of {key}. {step}")
    _verify(directory, key, what)
    registration = _read(directory, what)
    if expected and (registration.name, registration.version) != expected:
        raise SignatureError(f"{what} is another version, which was signed as {registration}, in its place. {DISTRUST}")
    return Verified(manifest, registration, wanted)


def _read(directory: Path, what: str) -> Registration:
    try:
        return Registration.model_validate_json((directory / REGISTRATION).read_bytes())
    except (OSError, ValidationError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise SignatureError(f"{what} has no valid {REGISTRATION} ({problem}). {DISTRUST}") from error


def _signer(signature: Path) -> str:
    """Return the fingerprint of the key that a signature names."""
    try:
        return str(json.loads(signature.read_bytes())["verificationMaterial"]["publicKey"]["hint"] or "none")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "none"


def _verify(directory: Path, key: Path, what: str) -> None:
    from model_signing import hashing, verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False))
    try:
        config.verify(directory, directory / SIGNATURE)
    except Exception as error:  # it declares none: what a broken file raises depends on where it is broken
        if names := _DIFFERENT.findall(str(error)):
            found = ", ".join(changed or others for changed, others in names)
            raise SignatureError(f"{what} is not what was signed: changed, added or missing: {found}. {DISTRUST}") from error
        reason = "".join(str(error).splitlines()[:1]) or type(error).__name__
        raise SignatureError(f"the signature of {what} is broken: {reason}. {DISTRUST}") from error


def fingerprint(key: Path) -> str:
    """Return the SHA-256 of a public key in PEM, which is the `sha256sum` of the file that the platform writes.

    Raises:
        WindtunnelError: the file is not a public key.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        public = serialization.load_pem_public_key(key.read_bytes())
    except ValueError as error:
        raise WindtunnelError(f"{key} is not a public key in PEM. The platform's own is {PUBLIC_KEY} in its folder of secrets") from error
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def trusted_key(settings: Settings) -> Path:
    """Return the file of the public key that verifies versions. A copy of it lies beside the versions, for whoever wants to check them.

    Who can write to the versions can replace the copy, so it is not the one to verify with. A different one is a warning, because users
    must be able to get the previous version also while somebody looks for what else was written there.

    Raises:
        WindtunnelError: there is no public key.
    """
    key, copy = public_key(settings), settings.serving / "versions" / PUBLIC_KEY
    if not key.exists():
        raise WindtunnelError(f"the key that verifies versions is missing: expected {key}. Start the platform, which makes it")
    if not copy.exists():
        write_atomically(copy, key.read_bytes())
    elif copy.read_bytes() != key.read_bytes():
        found = f"the key beside the versions, {copy}, has SHA-256 {sha256(copy)}, but versions are verified with {key}, {fingerprint(key)}"
        step = "If you replaced the key, remove the copy beside the versions; otherwise somebody wrote to that folder: look for what else"
        print(f"warning: {found}. {step}", file=sys.stderr)
    return key
