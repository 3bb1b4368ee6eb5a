"""The page, where it was built; a plain word on how to build it, where it was not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

PAGE_FOLDER: Final = Path(__file__).parent / "page"

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
}
_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Asterism</title>
<h1>Asterism is running</h1>
<p>The page has not been built. Run <code>make page</code>
(or <code>npm ci &amp;&amp; npm run build</code> in <code>web/</code>), then start the service again.</p>
<p>The API needs no page: <a href="/openapi.json">its description</a>.</p>
</html>
"""


def install_page(app: FastAPI, folder: Path = PAGE_FOLDER) -> None:
    """Serve the page at `/` and its files under `/assets`."""

    @app.get("/", include_in_schema=False)
    def index(_: Request) -> Response:
        file = folder / "index.html"
        html = file.read_text(encoding="utf-8") if file.is_file() else _NOT_BUILT
        return HTMLResponse(html, headers=_HEADERS)

    assets = folder / "assets"
    if assets.is_dir():
        app.mount("/assets", StaticFiles(directory=assets), name="assets")
