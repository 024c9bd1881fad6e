"""python -m jaxseg.demo --model=WORKDIR

A page in the browser: drop an image, look at its clusters and levels, click a segment to see what
is most like it in the training images and what attends to it, and give the clusters names, which
are kept in the work directory.

The server listens to this machine alone unless --host says otherwise. It opens no file that a page
names: images come as bytes and stay in memory. It calls nothing outside, and its pages may not
either (Content-Security-Policy).
"""

import argparse
import importlib.resources
import ipaddress
import json
import pathlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import jinja2

from jaxseg import compiled
from jaxseg.core import UserError
from jaxseg.explorer import Explorer
from jaxseg.segment_index import LIMIT, open_index
from jaxseg.segmenter import load

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError:
    Starlette = None  # type: ignore[assignment,misc]

_BYTES = 2**25  # of an upload
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# A page of another site cannot send it without being asked first, which is refused.
_MARK = "x-jaxseg"
_STATIC = {
    "/report.css": ("jaxseg.report", "templates/page.css", "text/css"),
    "/page.css": ("jaxseg.commands", "demo_page/page.css", "text/css"),
    "/page.js": ("jaxseg.commands", "demo_page/page.js", "text/javascript"),
}


def main(argv: list[str]) -> None:
    """Runs the command line until it is interrupted."""
    arguments = _parser().parse_args(argv)
    compiled.keep()
    try:
        serve(arguments)
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.demo", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("--model", required=True, type=pathlib.Path, metavar="WORKDIR")
    parser.add_argument("--entry", default="", help="the entry of evals that names the pixels")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=8765, help="0 = any that is free")
    parser.add_argument(
        "--neighbours", type=int, default=LIMIT, metavar="N",
        help="training images to look segments up in, at most; 0 = none",
    )  # fmt: skip
    return parser


def serve(
    arguments: argparse.Namespace,
    started: Callable[["uvicorn.Server", str], None] = lambda server, address: None,
) -> None:
    """Serves the page until it is interrupted; `started` is given the server and its address.

    Raises:
        UserError: the extra is not installed, the model is no work directory of a trained run, or
            the address cannot be had.
    """
    if Starlette is None:
        raise UserError("The demo page needs more packages: pip install 'jaxseg[demo]'.")
    if not arguments.model.is_dir():
        raise UserError(
            f"--model is {str(arguments.model)!r}; give the work directory of a run, which keeps "
            "the names that you give."
        )
    with _listening(arguments.host, arguments.port) as listening:
        segmenter = load(arguments.model, arguments.entry)
        index, remark = None, "no training images were asked for (--neighbours=0)"
        if arguments.neighbours > 0:
            try:
                index, remark = open_index(arguments.model, segmenter, arguments.neighbours), ""
            except UserError as error:
                remark = f"the training images are not there: {error}"
        explorer = Explorer(arguments.model, segmenter, index)
        app = make_app(explorer, arguments.model.resolve().name, remark, arguments.host)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
        address = f"http://{arguments.host}:{listening.getsockname()[1]}/"
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        started(server, address)
        if not _is_loopback(arguments.host):
            print(f"Anyone who reaches {arguments.host} can use the page.", file=sys.stderr)
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{host}:{port} cannot be listened at ({error}); give another --port (0 = any that is "
            "free), or an IPv4 address of this machine as --host."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_app(explorer: Explorer, title: str, remark: str, host: str) -> "Starlette":
    """Returns the web application.

    Args:
        title: what the run is called; remark: why there are no neighbours, "" = there are some.
        host: that the server listens at: requests for another name are refused, so that a site
            whose name leads here cannot speak to it. An address that stands for all takes any.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxseg.commands", "demo_page"), autoescape=True
    )
    template = environment.get_template("index.html")

    async def page(request: Request) -> Response:
        shown = template.render(title=title, clusters=explorer.clusters, remark=remark)
        return HTMLResponse(shown, headers=_HEADERS)

    async def segment(request: Request) -> Response:
        return await _answer(request, explorer.segment)

    async def explain(request: Request) -> Response:
        def ask(data: bytes) -> dict[str, Any]:
            asked = _asked(data, {"id": str, "output": str, "x": (int, float), "y": (int, float)})
            return explorer.explain(asked["id"], asked["output"], asked["x"], asked["y"])

        return await _answer(request, ask)

    async def rename(request: Request) -> Response:
        return await _answer(
            request, lambda data: explorer.rename(_asked(data, {"names": list})["names"])
        )

    hosts = ["*"] if host == "0.0.0.0" else [host, "localhost", "127.0.0.1"]
    return Starlette(
        routes=[
            Route("/", page),
            *(Route(path, _static(*place)) for path, place in _STATIC.items()),
            Route("/images", segment, methods=["POST"]),
            Route("/segments", explain, methods=["POST"]),
            Route("/names", rename, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


def _static(package: str, name: str, kind: str) -> Callable:
    text = (importlib.resources.files(package) / name).read_text()

    async def answer(request: Request) -> Response:
        return Response(text, media_type=kind, headers=_HEADERS)

    return answer


async def _answer(request: "Request", ask: Callable[[bytes], Any]) -> "Response":
    """Returns what `ask` says of the request's body, or why it says nothing."""
    if _MARK not in request.headers:
        return JSONResponse({"error": "not a request of this page"}, 403, _HEADERS)
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _BYTES:
            told = f"The file is larger than {_BYTES >> 20} MiB."
            return JSONResponse({"error": told}, 413, _HEADERS)
    try:
        return JSONResponse(await run_in_threadpool(ask, b"".join(parts)), headers=_HEADERS)
    except UserError as error:
        return JSONResponse({"error": str(error)}, 422, _HEADERS)


def _asked(data: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a JSON body; raises UserError where one is missing or another kind."""
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UserError("The request is no JSON.") from error
    for name, kind in fields.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise UserError(f"The request has no {name!r} as it should be.")
    return found
