"""The newcomer: a fresh clone with no data beside it, an ordinary user, `make run` with its defaults.

Packages are installed over the network, as on any machine. `make run` is then typed where the network has nothing but loopback: no
mirror of MNIST can be reached, so it has to take Debian's Fashion-MNIST, and the default ports are free whatever else runs here.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import packages
from train_server.lenet5.model import LENET5
from windtunnel.settings import ROOT

ORDINARY = "nobody"  # who the newcomer is where root runs this test: a user that every machine has
PACKAGES = {"/usr/share/datasets/fashion-mnist": "dataset-fashion-mnist", "/usr/share/doc/python3-venv": "python3-venv"}
KEPT = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_", "OPENBLAS_")  # how the machine reaches package indexes, what its BLAS needs
SECONDS = 4000  # for the packages, and then for the run; a quiet machine takes 300 and 200

pytestmark = [pytest.mark.minutes(8), pytest.mark.timeout(3 * SECONDS)]

PRESSED = """
make run
for framework in libtorch pytorch tensorflow; do
    .venv/bin/windtunnel predict lenet5-$framework img/digit.png --json > "$HOME/$framework.json"
done
.venv/bin/windtunnel models --json > "$HOME/models.json"
"""


class Newcomer:
    """A user whose home is `folder`, with a clone in it, and the environment of a first login."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.clone = folder / "wind tunnel"
        self.user = pwd.getpwnam(ORDINARY) if os.geteuid() == 0 else None
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.clone)], check=True)
        if self.user:
            subprocess.run(["chown", "--recursive", f"{self.user.pw_uid}:{self.user.pw_gid}", str(folder)], check=True)
        name = self.user.pw_name if self.user else os.environ.get("USER", "newcomer")
        login = {"HOME": str(folder), "USER": name, "LOGNAME": name, "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
        self.environment = {key: value for key, value in os.environ.items() if key.startswith(KEPT)} | login

    def types(self, script: str, offline: bool = False) -> str:
        """What a script, typed in the clone, prints; it must succeed."""
        network = [
            "unshare",
            "--net",
            *([] if self.user else ["--map-root-user"]),
            sys.executable,
            str(Path(__file__).with_name("offline.py")),
        ]
        become = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"] if self.user else []
        command = [*(network if offline else []), *become, "sh", "-ec", script]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            started = subprocess.Popen(
                command,
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = started.wait(SECONDS)
            except BaseException:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                raise
            finally:
                output.seek(0)
                printed = output.read()
                print(printed)
        assert status == 0, f"exit status {status}"
        return printed


@pytest.fixture
def newcomer():
    lacking = [package for file, package in PACKAGES.items() if not Path(file).exists()]
    if os.geteuid() == 0 and lacking:
        packages.install(lacking)
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    try:
        made = Newcomer(folder)
        yield made
        made.types("make down")
    finally:
        shutil.rmtree(folder)


def test_make_run_in_a_fresh_clone_without_data_ends_with_three_champions_that_answer(newcomer):
    newcomer.types("make setup")
    printed = newcomer.types(PRESSED, offline=True)
    assert "lenet5 on fashion_mnist: 60,000 images, 5 epochs" in printed

    served = {known["name"]: known for known in json.loads((newcomer.home / "models.json").read_text())}
    assert set(served) == {f"lenet5-{framework}" for framework in LENET5.default_frameworks}
    for framework in LENET5.default_frameworks:
        assert (served[f"lenet5-{framework}"]["aliases"], served[f"lenet5-{framework}"]["served"]) == (["champion"], "to users")
        (answer,) = json.loads((newcomer.home / f"{framework}.json").read_text())
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert not list(newcomer.home.glob("*%20*"))  # of a path that was taken for a URL
    again = newcomer.types("make down && .venv/bin/windtunnel status || test $? = 3")
    assert " up " not in again
