"""What the README tells users to type to ask the models, typed."""

import re
import sys

import pytest

from windtunnel.settings import ROOT

SECTION = "## Asking the models"
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT.split(SECTION)[1].split("\n## ")[0], re.DOTALL)


pytestmark = pytest.mark.usefixtures("champions")


def test_there_is_what_this_test_is_for():
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python"]


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_a_block_runs_and_is_answered(platform, tmp_path, language, block):
    (tmp_path / "img").symlink_to(ROOT / "img")
    script = platform.here(block)
    printed = platform.typed([sys.executable, "-c", script] if language == "python" else script, tmp_path)
    assert re.search(r'"label": ?\d|"predictions"|^label \d+ version \d+$', printed), printed
    assert '"error"' not in printed
    assert printed.count('"predictions"') in (0, 2)
