"""Model archives: what TorchServe loads, made from a version's export, equal for equal versions byte for byte."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically

MANIFEST = "MAR-INF/MANIFEST.json"
MODEL = "model.pt"
LARGEST = 256 << 20  # bytes, unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that zip knows
HANDLERS = Path(__file__).parent  # they are files here, and not imported: they import torch


def write_archive(file: Path, name: str, version: str, model: Path, handler: str = "handler.py") -> None:
    """Archive the TorchScript `model` (a file `model.pt`) as `version` of the registered model `name`, with one of this project's handlers.

    torch-model-archiver gathers the files and writes the manifest; a zip of its own would hold the day's times and order.

    Raises:
        WindtunnelError: the files cannot be archived.
    """
    with tempfile.TemporaryDirectory() as temporary:
        workspace, export = Path(temporary, "workspace"), Path(temporary, "export")
        workspace.mkdir()
        export.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "no-archive", "--export-path", str(export)),
                *("--model-name", name, "--version", version, "--handler", str(HANDLERS / handler), "--serialized-file", str(model)),
            ],
            env=os.environ | {"TMPDIR": str(workspace)},  # it removes whatever is called `name` in there
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise WindtunnelError(f"{model} cannot be archived: {(done.stderr.strip() or 'torch-model-archiver failed').splitlines()[-1]}")
        content = {member: (export / name / member).read_bytes() for member in _members(handler)}
    manifest = json.loads(content[MANIFEST]) | {"createdOn": "01/01/1980 00:00:00"}  # day/month/year; TorchServe wants one
    content[MANIFEST] = json.dumps(manifest, indent=2, sort_keys=True).encode()
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member in content:
            info = zipfile.ZipInfo(member, EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content[member])
    write_atomically(file, packed.getvalue())


def check_archive(file: Path, name: str, version: str, handler: str = "handler.py") -> None:
    """Look into an archive, without unpacking it, for anything that `write_archive` would not have put there.

    TorchServe runs the code in an archive, and writes its members where their names say.

    Raises:
        WindtunnelError: the archive must not be loaded; the text says why.
    """

    def refuse(reason: str) -> WindtunnelError:
        return WindtunnelError(f"archive {file} {reason}: remove it, and publish the version again")

    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = sorted(member.filename for member in members)
            if names != sorted(_members(handler)):
                raise refuse(f"holds {', '.join(names)}, not {', '.join(sorted(_members(handler)))}")
            for member in members:
                if not stat.S_ISREG(member.external_attr >> 16):
                    raise refuse(f"holds {member.filename}, which is not a regular file")
            if (size := sum(member.file_size for member in members)) > LARGEST:
                raise refuse(f"unpacks to {size} bytes, more than {LARGEST}")
            manifest = json.loads(_read(archive, MANIFEST))
            code = _read(archive, handler)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise refuse(f"cannot be read ({error})") from error
    expected = {"modelName": name, "modelVersion": version, "serializedFile": MODEL, "handler": handler}
    if not isinstance(manifest, dict) or manifest.get("model") != expected:
        raise refuse(f"has another manifest than {expected}")
    if code != (HANDLERS / handler).read_bytes():
        raise refuse(f"holds a {handler} that is not this project's")


def _members(handler: str) -> tuple[str, ...]:
    return MANIFEST, handler, MODEL


def _read(archive: zipfile.ZipFile, member: str) -> bytes:
    """A member's bytes, no more than it says it has."""
    with archive.open(member) as stream:
        return stream.read(archive.getinfo(member).file_size)
