"""The fire drill: a broken version is published beside the good one, and must be turned away while users do not notice."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from serving.golden import asked
from serving.load import OpenLoop
from serving.release import Release
from serving.server import Version
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, read_manifest

NUMBER = 1_000_000  # beyond any registered version
RATE = 20.0  # users' requests a second meanwhile


def drill(release: Release, champion: int) -> str:
    """Hold the drill on a model whose champion is given, and return in a sentence what was seen.

    Raises:
        WindtunnelError: the broken version was accepted or is still loaded, or the champion missed an answer.
    """
    version = release.fetch(champion)
    golden = load_file(version.directory / "golden.safetensors")
    image, expected = golden[asked(golden)][:1], golden["logits"][:1]

    def ask(_: int) -> None:
        found = release.server.predict(version.name, image)["logits"]
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
            raise WindtunnelError(f"logits {found.tolist()}, the champion's are {expected.tolist()}")

    refusal = ""
    with tempfile.TemporaryDirectory() as place, OpenLoop(ask, RATE) as users:
        broken = Version(version.name, NUMBER + champion, Path(place) / "broken")
        break_version(version.directory, broken.directory)
        try:
            release.try_out(broken)
        except WindtunnelError as error:
            refusal = str(error)
    if not refusal:
        raise WindtunnelError(f"fire drill: {broken}, whose weights were overwritten, was accepted; do not trust the verification")
    if broken.number in release.server.published(version.name):
        raise WindtunnelError(f"fire drill: {broken} was found out, but is still on {release.server.name}: windtunnel reconcile")
    failures = [sample.answer for sample in users.samples if sample.answer is not None]
    if failures or not users.samples:
        first = failures[0] if failures else "nobody asked"
        raise WindtunnelError(f"fire drill: users missed {len(failures)} answers of {version} meanwhile, the first: {first}")
    answers = len(users.samples)
    return f"fire drill passed: the broken version was turned away ({refusal}); meanwhile {version} gave {answers} right answers"


def break_version(good: Path, broken: Path) -> None:
    """Copy a version, the middle third of its model files overwritten with zeros; its manifest agrees, so only its answers can tell."""
    shutil.copytree(good, broken)
    for file in [*broken.rglob("model.*"), *broken.rglob("variables.data-*")]:
        content = bytearray(file.read_bytes())
        third = len(content) // 3
        content[third : 2 * third] = bytes(third)
        file.write_bytes(content)
    manifest = read_manifest(broken)
    files = {name: sha256(broken / name) for name in manifest.files}
    write_json(broken / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))
