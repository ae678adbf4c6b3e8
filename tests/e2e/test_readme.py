"""What the README tells users to type to ask the models, typed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from windtunnel.settings import ROOT, Settings

SECTION = "## Asking the models"
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT.split(SECTION)[1].split("\n## ")[0], re.DOTALL)


pytestmark = pytest.mark.usefixtures("champions")


def here(platform, text):
    """The text with the addresses and the home of the tests' platform in place of the documented ones."""
    for name, field in Settings.model_fields.items():
        if name.endswith("_port"):
            text = text.replace(f"127.0.0.1:{field.default}", f"127.0.0.1:{getattr(platform.settings, name)}")
    return text.replace(".windtunnel/", f"{platform.settings.home}/")


def test_there_is_what_this_test_is_for():
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python"]


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_a_block_runs_and_is_answered(platform, tmp_path, language, block):
    (tmp_path / "img").symlink_to(ROOT / "img")
    script = here(platform, block)
    command = [sys.executable, "-c", script] if language == "python" else ["bash", "-euc", script]
    environment = platform.environment | {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r'"label": ?\d|"predictions"|^label \d+ version \d+$', done.stdout), done.stdout
    assert '"error"' not in done.stdout
    assert done.stdout.count('"predictions"') in (0, 2)
