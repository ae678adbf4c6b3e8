"""Model archives: TorchServe's format, made from a version's export, identical byte for byte for identical versions."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

from serving.backends.base import served_model
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically

MANIFEST = "MAR-INF/MANIFEST.json"
DECLARATION = "model.json"  # the name under which the handler reads it
MODEL = "model.pt"
LARGEST = 256 << 20  # bytes, unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file
HANDLER = Path(__file__).with_name("handler.py")  # used as a file and not imported, because it imports torch


def write_archive(file: Path, name: str, version: str, model: Path, handler: Path = HANDLER) -> None:
    """Archive the TorchScript `model` (a file `model.pt`) as `version` of the registered model `name`, with this handler.

    torch-model-archiver gathers the files and writes the manifest. Its own zip file would depend on the date and on the order of files.
    The declaration of the model's input and outputs is added, for the handler.

    Raises:
        WindtunnelError: the files cannot be archived, or no package declares the model.
    """
    declaration = declare(name)
    with tempfile.TemporaryDirectory() as temporary:
        workspace, export = Path(temporary, "workspace"), Path(temporary, "export")
        workspace.mkdir()
        export.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "no-archive", "--export-path", str(export)),
                *("--model-name", name, "--version", version, "--handler", str(handler), "--serialized-file", str(model)),
            ],
            env=os.environ | {"TMPDIR": str(workspace)},  # it deletes anything called `name` in this directory
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise WindtunnelError(f"{model} cannot be archived: {(done.stderr.strip() or 'torch-model-archiver failed').splitlines()[-1]}")
        content = {member: (export / name / member).read_bytes() for member in _gathered(handler)}
    content[DECLARATION] = declaration
    manifest = json.loads(content[MANIFEST]) | {"createdOn": "01/01/1980 00:00:00"}  # day/month/year; TorchServe requires a date
    content[MANIFEST] = json.dumps(manifest, indent=2, sort_keys=True).encode()
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member in content:
            info = zipfile.ZipInfo(member, EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content[member])
    write_atomically(file, packed.getvalue())


def check_archive(file: Path, name: str, version: str, handler: Path = HANDLER) -> None:
    """Check, without unpacking it, that an archive contains only what `write_archive` writes.

    TorchServe runs the code in an archive, and extracts its members to the paths they name.

    Raises:
        WindtunnelError: the archive must not be loaded; the message says why.
    """

    def refuse(reason: str) -> WindtunnelError:
        return WindtunnelError(f"archive {file} {reason}. Remove it, and publish the version again")

    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = sorted(member.filename for member in members)
            if names != sorted(_members(handler)):
                raise refuse(f"contains the wrong files: found {', '.join(names)}, expected {', '.join(sorted(_members(handler)))}")
            for member in members:
                if not stat.S_ISREG(member.external_attr >> 16):
                    raise refuse(f"contains {member.filename}, which is not a regular file")
            if (size := sum(member.file_size for member in members)) > LARGEST:
                raise refuse(f"is too large: found {size} bytes unpacked, expected at most {LARGEST}")
            manifest = json.loads(_read(archive, MANIFEST))
            code, declaration = _read(archive, handler.name), _read(archive, DECLARATION)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise refuse(f"cannot be read ({error})") from error
    expected = {"modelName": name, "modelVersion": version, "serializedFile": MODEL, "handler": handler.name}
    if not isinstance(manifest, dict) or manifest.get("model") != expected:
        raise refuse(f"has the wrong manifest: expected {expected}")
    if code != handler.read_bytes():
        raise refuse(f"contains a {handler.name} that is not this project's")
    if declaration != declare(name):
        raise refuse(f"contains the wrong {DECLARATION}: found {declaration[:200]!r}, expected {declare(name)!r}")


def declare(name: str) -> bytes:
    """Return the declaration of the input and the outputs of a registered model, in JSON. The order of the outputs has a meaning.

    Raises:
        WindtunnelError: no package declares the model.
    """
    model = served_model(name)
    taken = {"name": model.input.name, "shape": model.input.shape, "codec": model.input.codec}
    outputs = [{"name": output.name, "shape": output.shape} for output in model.outputs]
    return json.dumps({"input": taken, "outputs": outputs}, indent=2).encode()


def _members(handler: Path) -> tuple[str, ...]:
    return *_gathered(handler), DECLARATION


def _gathered(handler: Path) -> tuple[str, ...]:
    """Return the members that torch-model-archiver writes."""
    return MANIFEST, handler.name, MODEL


def _read(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return a member's bytes, at most as many as its header declares."""
    with archive.open(member) as stream:
        return stream.read(archive.getinfo(member).file_size)
