"""The fire drill: publish a broken version next to the champion. It must be rejected, and users must notice nothing."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from serving.backends.base import Version, served_model
from serving.load.generators import OpenLoop
from serving.release.release import Release
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.golden import read_golden
from windtunnel.manifest import MANIFEST, read_manifest
from windtunnel.model import declared

NUMBER = 1_000_000  # above any registered version
RATE = 20.0  # users' requests per second during the drill


def drill(release: Release, champion: int) -> str:
    """Run the drill on a model with this champion, and return the result in a sentence.

    Raises:
        WindtunnelError: the broken version was accepted or is still loaded, or the champion missed an answer.
    """
    version = release.fetch(champion)
    model = served_model(version.name)
    golden, first = read_golden(version.directory, model), model.outputs[0].name
    sample, expected = golden[model.input.name][:1], golden[first][:1]

    def ask(_: int) -> None:
        found = release.server.predict(version.name, sample)[first]
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
            raise WindtunnelError(f"wrong answer: found {first} {found.tolist()}, expected the champion's {expected.tolist()}")

    refusal = ""
    with tempfile.TemporaryDirectory() as place, OpenLoop(ask, RATE) as users:
        broken = Version(version.name, NUMBER + champion, Path(place) / "broken")
        break_version(version.directory, broken.directory, declared(version.name)[1].export)
        try:
            release.try_out(broken)
        except WindtunnelError as error:
            refusal = str(error)
    if not refusal:
        raise WindtunnelError(f"fire drill failed: {broken}, whose weights were overwritten, was accepted. Do not trust the verification")
    if broken.number in release.server.published(version.name):
        raise WindtunnelError(
            f"fire drill failed: {broken} was rejected, but is still on {release.server.name}. Withdraw it: `windtunnel reconcile`"
        )
    failures = [sample.answer for sample in users.samples if sample.answer is not None]
    if failures or not users.samples:
        first = failures[0] if failures else "no request was sent"
        raise WindtunnelError(f"fire drill failed: {version} missed {len(failures)} answers to users, the first: {first}")
    answers = len(users.samples)
    return f"fire drill passed: the broken version was rejected ({refusal}); meanwhile {version} gave {answers} right answers"


def break_version(good: Path, broken: Path, export: str) -> None:
    """Copy a version and overwrite the middle third of its weights with zeros. Its manifest matches, so only its answers are wrong.

    The weights are the file `export`; in a SavedModel, those of TensorFlow and of LiteRT.
    """
    shutil.copytree(good, broken)
    weights = broken / export
    for file in [weights] if weights.is_file() else [*weights.rglob("model.*"), *weights.rglob("variables.data-*")]:
        content = bytearray(file.read_bytes())
        third = len(content) // 3
        content[third : 2 * third] = bytes(third)
        file.write_bytes(content)
    manifest = read_manifest(broken)
    files = {name: sha256(broken / name) for name in manifest.files}
    write_json(broken / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))
