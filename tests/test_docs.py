"""The documents: they build, load nothing from other hosts, and name only what there is."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.documents import PAGES, blocks, section
from windtunnel.cli.app import COMMANDS, app
from windtunnel.data import recordings_manifest
from windtunnel.settings import ROOT, defaults

MOST_WORDS = 900  # of the README
LOADED = {"script": "src", "link": "href", "img": "src", "source": "srcset", "iframe": "src"}
"""The elements and attributes by which a page loads something."""

FOLDERS = ("benchmarks", "dags", "docs", "examples", "libtorch_cpp", "notebooks", "serving", "train_server", "windtunnel")
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


class Loads(HTMLParser):
    """The addresses from which a page loads scripts, styles, fonts and pictures."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if LOADED.get(tag) == name]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it."""
    place = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return place


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    elsewhere = {(page.name, address) for page in pages for address in Loads(page).found if re.match(r"(https?:)?//", address)}
    assert elsewhere == set()
    assert [file.name for file in site.rglob("*.css") if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", file.read_text())] == []


def test_the_settings_page_has_every_setting(site: Path) -> None:
    page = (site / "settings.html").read_text()
    for name in defaults():
        assert f"<code>{name}</code>" in page
    row = ("<code>WINDTUNNEL_TORCHSERVE_INFERENCE_PORT</code>", "<code>8082</code>", "TorchServe: inference over REST.")
    assert "\n".join(f"<td>{cell}</td>" for cell in row) in page


def test_the_readme_is_short_and_its_links_lead_somewhere(site: Path) -> None:
    assert len(TEXTS["README.md"].split()) <= MOST_WORDS
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", TEXTS["README.md"]):
        assert (ROOT / path).exists(), path
        if anchor:
            assert f'id="{anchor}"' in (site / Path(path).relative_to("docs").with_suffix(".html")).read_text(), (path, anchor)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of the documents' shell blocks: its page, and its words."""
    for page, text in TEXTS.items():
        for _, block in blocks(text, "sh"):
            if "<<" not in block and "--8<--" not in block:
                for line in block.replace("\\\n", " ").splitlines():
                    yield page, shlex.split(line, comments=True)


def test_every_windtunnel_command_is_one_that_the_command_line_takes() -> None:
    extended = typer.Typer()
    extended.registered_commands += app.registered_commands
    for point in entry_points(group=COMMANDS):
        extended.command(point.name)(point.load())
    group: Any = typer.main.get_command(extended)
    found = [(page, words[words.index("windtunnel") + 1 :]) for page, words in commands() if "windtunnel" in words]
    assert len(found) > 20
    for _, (name, *arguments) in found:
        group.commands[name].make_context(name, arguments, parent=group.context_class(group))  # raises what a user would see


def test_every_target_file_and_variable_that_is_named_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {*defaults(), "WINDTUNNEL_DATA"}
    known |= set(re.findall(r"WINDTUNNEL_\w+", (ROOT / ".env.example").read_text()))
    for page, text in TEXTS.items():
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, (page, target)
        for file in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[a-z0-9_/]+\.\w+)`", text):
            assert (ROOT / file).exists(), (page, file)
        for variable in re.findall(r"WINDTUNNEL_[A-Z_]+[A-Z]", text):
            assert variable in known, (page, variable)


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(\w+)`", "".join(TEXTS.values()))
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), (file, name)


def test_code_in_the_documents_can_be_read() -> None:
    for page, text in TEXTS.items():
        for _, block in blocks(text, "python"):
            compile(block, page, "exec")
    ((_, manifest),) = blocks(section("docs/spoken-commands.md", "## Other words"), "json")
    assert recordings_manifest.parse(manifest.encode(), "my_digits.json").vocabulary == ("zero", "one", "two", "three")
