"""The page and the documentation: their files, and how each is answered."""

from importlib.resources import files

from starlette.responses import Response

FILES = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "pictures.js": "text/javascript",
    "docs.js": "text/javascript",
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_file(name: str, kind: str) -> Response:
    """A file of the folder ``static`` of this package, of a media type."""
    content = files("jaspertc.server").joinpath("static", name).read_bytes()
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=HEADERS)
