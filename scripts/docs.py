"""A hook of mkdocs (see mkdocs.yml) that adds the pages and pictures outside docs/, and the tables generated from the code."""

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from windtunnel.settings import ROOT
from windtunnel.settings_table import PLACE, settings_table

ELSEWHERE = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("libtorch_cpp/README.md", "serving/backends/torchserve/README.md", "train_server/README.md"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures outside docs/, under their paths in the repository."""
    pictures = (f"img/{file.name}" for file in sorted((ROOT / "img").iterdir()) if file.suffix in (".png", ".svg"))
    for name in (*ELSEWHERE, *pictures):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite links of the repository for the site, whose root is docs/, and fill in the table of settings."""
    moved = r"(\]\()\.\./" if page.file.generated_by is None else r"(\]\((?:\.\./)*)docs/"
    markdown = re.sub(moved, r"\1", markdown)
    return markdown.replace(PLACE, settings_table()) if PLACE in markdown else markdown
