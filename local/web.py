"""A small web site as a source to research: the files of `local/pages`, and a few pages that go wrong.

It is a thread of the stack's own process. Its figures are made up, and say so.
"""

import contextlib
import html
import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGES = Path(__file__).parent / "pages"
TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".txt": "text/plain; charset=utf-8"}
# What goes wrong on purpose.
BROKEN = {"/broken": HTTPStatus.INTERNAL_SERVER_ERROR, "/gone": HTTPStatus.NOT_FOUND}
SLOW_SECONDS = 30.0
SLOWEST_SECONDS = 600.0


class Web:
    """The site, on a socket that listens already."""

    def __init__(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()
        self.place = f"{host}:{port}"
        self.url = f"http://{self.place}"
        self._stopped = threading.Event()
        self._server = Server(listener, self._stopped)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, and whoever still waits for a slow page; may be called without `start`."""
        self._stopped.set()
        if self._thread.is_alive():
            # Wakes the thread, which otherwise looks twice a second whether it is to end.
            with contextlib.suppress(OSError):
                self._server.socket.shutdown(socket.SHUT_RDWR)
            self._server.shutdown()
        self._server.server_close()


class Server(ThreadingHTTPServer):
    """A thread for each connection, none of which keeps the process alive."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, stopped: threading.Event) -> None:
        super().__init__(listener.getsockname(), Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.stopped = stopped


class Page(BaseHTTPRequestHandler):
    """One request. Paths are looked up among the files there are, so none leads out of the directory."""

    server: Server
    server_version = "pages"
    sys_version = ""

    def do_GET(self) -> None:
        """A page, the index, or what goes wrong on purpose."""
        address = urlsplit(self.path)
        match address.path:
            case "/":
                self._answer(HTTPStatus.OK, index().encode(), TYPES[".html"])
            case "/index.json":
                self._answer(HTTPStatus.OK, json.dumps({"pages": titles()}, indent=2).encode(), TYPES[".json"])
            case "/slow":
                self._slowly(parse_qs(address.query).get("seconds", [str(SLOW_SECONDS)])[0])
            case path if path in BROKEN:
                self._answer(BROKEN[path], f"{BROKEN[path].phrase}\n".encode(), TYPES[".txt"])
            case path:
                self._file(path)

    do_HEAD = do_GET  # noqa: N815 the library's name

    def _file(self, path: str) -> None:
        found = {f"/{page.name}": page for page in pages()}.get(path)
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, b"There is no such page.\n", TYPES[".txt"])
        else:
            self._answer(HTTPStatus.OK, found.read_bytes(), TYPES[found.suffix])

    def _slowly(self, seconds: str) -> None:
        """Says nothing for so long, then a line; the stack's end ends the wait."""
        with contextlib.suppress(ValueError):
            self.server.stopped.wait(min(float(seconds), SLOWEST_SECONDS))
        self._answer(HTTPStatus.OK, b"At last.\n", TYPES[".txt"])

    def _answer(self, status: HTTPStatus, body: bytes, type: str) -> None:
        """The whole answer; who has left meanwhile misses nothing."""
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the library's name
        """Nothing: the stack's own output is for its user."""


def pages() -> list[Path]:
    """The files, in the order of their names."""
    return sorted(path for path in PAGES.iterdir() if path.suffix in TYPES)


def titles() -> dict[str, str]:
    """What each page says that it is: an article's title, else the list's own."""
    return {f"/{page.name}": title(page.read_text(), page.suffix) for page in pages()}


def title(text: str, suffix: str) -> str:
    """A page's title."""
    if suffix == ".json":
        return str(json.loads(text)["title"])
    return html.unescape(text.partition("<title>")[2].partition("</title>")[0])


def index() -> str:
    """The first page: links to all others."""
    links = "\n".join(f'<li><a href="{path}">{html.escape(title)}</a></li>' for path, title in titles().items())
    head = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Pages of the local stack</title>\n'
    return f"{head}<h1>Pages of the local stack</h1>\n<ul>\n{links}\n</ul>\n</html>\n"
