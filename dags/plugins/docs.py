"""Serve the pages of `docs/` in Airflow, so that the descriptions of DAGs can link to them, with and without access to the internet.

Airflow finds this plugin by its entry point `airflow.plugins`. Addresses are paths in the repository, such as
`/windtunnel/docs/docs/training.md` and `/windtunnel/docs/img/digit.png`, so that the pages' own relative links work. `make docs` builds the
same pages as a site with a search.
"""

import re
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from dags.web import headers

PREFIX = "/windtunnel/docs"

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
HEADERS = headers(POLICY)
SERVED = re.compile(
    r"(docs/[a-z-]+\.md|img/[a-z0-9_]+\.(png|svg)|CHANGELOG\.md|((train_server|libtorch_cpp|serving/backends/torchserve)/)README\.md)"
)
SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)  # the contents of a file of the repository, as for mkdocs

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
:root {{ --line: color-mix(in srgb, currentColor 20%, transparent); --soft: color-mix(in srgb, currentColor 6%, transparent); }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }}
nav {{ border-bottom: 1px solid var(--line); padding-bottom: .5rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem; overflow-wrap: normal; }}
th, td {{ padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }}
pre {{ overflow-x: auto; background: var(--soft); padding: .75rem; line-height: 1.4; overflow-wrap: normal; }}
code {{ font-size: .85em; }}
img {{ max-width: 100%; height: auto; }}
img[src$="#only-dark"] {{ display: none; }}
@media (prefers-color-scheme: dark) {{
  img[src$="#only-dark"] {{ display: inline; }}
  img[src$="#only-light"] {{ display: none; }}
  img[src$=".svg"] {{ background: #fff; }}
}}
</style></head>
<body><nav><a href="{root}docs/index.md">All pages</a></nav><main>
{body}</main></body></html>
"""


class Docs(AirflowPlugin):
    """Adds the pages of the documentation."""

    name = "docs"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The FastAPI application that serves the pages."""
        return [{"name": self.name, "app": application(), "url_prefix": PREFIX}]


def application() -> Any:
    """Return an application that serves the documentation's pages and pictures to users who are logged in."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse, Response

    from windtunnel.settings import ROOT

    app = FastAPI(openapi_url=None)

    @app.get("/{path:path}", dependencies=[Depends(requires_access_view(AccessView.DOCS))])
    def page(path: str) -> Response:
        file = ROOT / path
        if not SERVED.fullmatch(path) or not file.is_file():
            raise HTTPException(404, f"there is no page {path}: see docs/index.md")
        if file.suffix != ".md":
            return FileResponse(file, headers=HEADERS)
        return HTMLResponse(render(file.read_text("utf-8"), "../" * path.count("/")), headers=HEADERS)

    return app


def render(markdown: str, root: str) -> str:
    """Return a page as HTML. `root` is the relative path from the page to the root of the repository."""
    from html import escape
    from itertools import pairwise

    from markdown_it import MarkdownIt

    from windtunnel.settings import ROOT
    from windtunnel.settings_table import PLACE, settings_table

    def included(found: re.Match[str]) -> str:
        file = ROOT / found[1]
        return file.read_text("utf-8").rstrip("\n") if file.is_file() else f"{found[1]} is in the project's repository."

    markdown = SNIPPET.sub(included, markdown)
    if PLACE in markdown:
        markdown = markdown.replace(PLACE, settings_table())
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    for heading, text in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text.content).strip().lower()))
    title = next((text.content for heading, text in pairwise(tokens) if heading.tag == "h1"), "Windtunnel")
    return PAGE.format(title=escape(title), root=root, body=parser.renderer.render(tokens, parser.options, {}))
