"""The fire drill: a broken version is published beside the good one, and must be turned away while users do not notice."""

import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from serving.release import Release
from serving.server import Server, Version
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, read_manifest

NUMBER = 1_000_000  # beyond any registered version
PAUSE_SECONDS = 0.02


def drill(release: Release, champion: int) -> str:
    """Hold the drill on a model whose champion is given, and return in a sentence what was seen.

    Raises:
        WindtunnelError: the broken version was accepted or is still loaded, or the champion missed an answer.
    """
    version = release.fetch(champion)
    with tempfile.TemporaryDirectory() as place, Users(release.server, version) as users:
        broken = Version(version.name, NUMBER + champion, Path(place) / "broken")
        break_version(version.directory, broken.directory)
        refusal = ""
        try:
            release.try_out(broken)
        except WindtunnelError as error:
            refusal = str(error)
    if not refusal:
        raise WindtunnelError(f"fire drill: {broken}, whose weights were overwritten, was accepted; do not trust the verification")
    if broken.number in release.server.served(version.name).versions:
        raise WindtunnelError(f"fire drill: {broken} was found out, but is still loaded on {release.server.name}: windtunnel reconcile")
    if users.failures or not users.answers:
        first = users.failures[0] if users.failures else "none was answered"
        raise WindtunnelError(f"fire drill: users missed {len(users.failures)} answers of {version} meanwhile, the first: {first}")
    return f"fire drill passed: the broken version was turned away ({refusal}); meanwhile {version} gave {users.answers} right answers"


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


class Users:
    """Ask for the champion's answers, as users do, from entering to leaving. `answers` counts the right ones."""

    def __init__(self, server: Server, champion: Version) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._server = server
        self._champion = champion
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        golden = load_file(self._champion.directory / "golden.safetensors")
        image, expected = golden["image"][:1], golden["logits"][:1]
        while not self._stop.is_set():
            try:
                found = self._server.predict(self._champion.name, image)["logits"]
                if np.allclose(found, expected, rtol=1e-4, atol=1e-4):
                    self.answers += 1
                else:
                    self.failures.append(f"logits {found.tolist()}, the champion's are {expected.tolist()}")
            except WindtunnelError as error:
                self.failures.append(str(error))
            time.sleep(PAUSE_SECONDS)
