"""What the README and docs/model-servers.md tell users to type to ask the models, typed."""

import re
import sys

import pytest

from tests.documents import blocks, section
from windtunnel.settings import ROOT

SECTIONS = {"README.md": "## Ask a model", "docs/model-servers.md": "## Ask the models"}
BLOCKS = {page: blocks(section(page, heading), "sh|python") for page, heading in SECTIONS.items()}


pytestmark = pytest.mark.usefixtures("champions")


def test_there_is_what_this_test_is_for():
    assert [language for language, _ in BLOCKS["README.md"]] == ["sh", "python"]
    assert [language for language, _ in BLOCKS["docs/model-servers.md"]] == ["sh", "sh", "python"]


@pytest.mark.parametrize(("language", "block"), [block for found in BLOCKS.values() for block in found])
def test_a_block_runs_and_is_answered(platform, tmp_path, language, block):
    (tmp_path / "img").symlink_to(ROOT / "img")
    script = platform.here(block)
    printed = platform.typed([sys.executable, "-c", script] if language == "python" else script, tmp_path)
    assert re.search(r'"label": ?\d|"predictions"|^label \d+ version \d+$', printed), printed
    assert '"error"' not in printed
    assert printed.count('"predictions"') in (0, 2)


def test_the_command_line_asks_as_the_page_says(platform):
    ((_, block),) = blocks((ROOT / "docs/model-servers.md").read_text().split("\n## ")[0], "sh")
    for command in block.splitlines():
        assert re.search(r"img/digit\.png +│ +0 +│ +\d", platform.typed(command, ROOT)), command
