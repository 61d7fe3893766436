"""A plain HTTP receiver behind nginx: what it answers 200 to is on the disk, whatever kills it afterwards."""

from __future__ import annotations

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOCK = threading.Lock()


def store(path: Path, lines: list[bytes]) -> None:
    """Appends lines durably."""
    with LOCK, path.open("ab") as out:
        out.write(b"".join(line + b"\n" for line in lines))
        out.flush()
        os.fsync(out.fileno())


def objects(body: str) -> list[bytes]:
    """JSON objects that follow one another, as HEC takes them, each on a line of its own."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(body):
        _, end = decoder.raw_decode(body, at)
        found.append(body[at:end].replace("\n", " ").encode())
        at = end + len(body[end:]) - len(body[end:].lstrip())
    return found


class Receiver(BaseHTTPRequestHandler):
    """Takes lines at `/in`, and HEC's events."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        """So that one can wait for it."""
        self.answer(200, b"{}")

    def do_HEAD(self) -> None:
        """What `check` asks."""
        self.answer(200, b"")

    def do_POST(self) -> None:
        """Stores, then answers."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/in":
            store(self.folder / "http.ndjson", body.splitlines())
            self.answer(200, b"{}")
        elif self.path.startswith("/services/collector/event"):
            store(self.folder / "splunk.ndjson", objects(body.decode()))
            self.answer(200, b'{"text":"Success","code":0}')
        else:
            self.answer(404, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        """One answer."""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    Receiver.folder = options.folder
    ThreadingHTTPServer(("127.0.0.1", options.port), Receiver).serve_forever()
