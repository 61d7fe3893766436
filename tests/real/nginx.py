"""The real binary with nginx between it and its destinations: TLS with a private authority, 413, and 502 in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import servers

import lane
import private_ca

PACKAGE = "nginx"
BODY_BYTES_MAX = 48 * 1024
"""nginx answers 413 above this: much less than a batch."""


def fetch(tools: Path) -> str:
    """The path of an nginx: the system's, else Debian's package, unpacked without being installed."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is not None:
        return found
    home = tools / "nginx"
    binary = home / "usr" / "sbin" / "nginx"
    if not binary.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise servers.CannotBeHad("needs nginx, and there is no apt-get to fetch it")
        home.mkdir(parents=True, exist_ok=True)
        download = f"apt-get download -q {PACKAGE}"
        script = f"({download} || (apt-get update -q && {download})) && dpkg -x *.deb ."
        run = subprocess.run(["bash", "-c", script], cwd=home, capture_output=True, text=True, timeout=600)
        if run.returncode != 0:
            raise servers.CannotBeHad(f"Debian's package {PACKAGE}: {run.stderr[-300:]}")
    if subprocess.run([binary, "-v"], capture_output=True).returncode != 0:
        raise servers.CannotBeHad("the unpacked nginx does not run here")
    return str(binary)


@dataclass
class Upstream:
    """The receiver behind nginx, which can be killed and started again with what it has on the disk."""

    folder: Path
    port: int = field(default_factory=lane.free_port)
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        script = Path(__file__).resolve().parent / "receiver.py"
        with (self.folder / "receiver.log").open("ab") as log:
            command = [sys.executable, script, "--port", str(self.port), "--folder", self.folder]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        lane.wait_until("the receiver", 20, lambda: lane.answers(f"http://127.0.0.1:{self.port}/"))

    def kill(self) -> None:
        """SIGKILL: nginx answers 502 from now on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def events(self, name: str) -> list[dict]:
        """What was stored for a sink."""
        path = self.folder / f"{name}.ndjson"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line, parse_float=str) for line in lines]


CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        client_max_body_size {limit};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_next_upstream off;
        }}
    }}
}}
"""


@dataclass
class Bench:
    """nginx, what is behind it, and what is sent."""

    binary: Path
    folder: Path
    port: int
    upstream: Upstream
    pki: private_ca.Pki
    files: list[lane.LogFile]
    issued: dict[str, dict]

    def config(self, name: str, sink: str, listen: int) -> str:
        """A configuration with a folder as its source, and one sink."""
        return f"""
[agent]
listen = "127.0.0.1:{listen}"
state_dir = "{self.folder}/state-{name}"

[sources.local]
type = "directory"
path = "{self.folder}/{name}-files"
poll_interval = "200ms"

[sinks.{name}]
{sink}
retry = {{ initial = "50ms", max = "500ms" }}
batch = {{ max_age = "100ms" }}

[dead_letter]
type = "file"
path = "{self.folder}/{name}-dead-letters.ndjson"
durable = true
"""

    def statuses(self) -> list[int]:
        """What nginx has answered so far."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [int(line.split('" ')[1].split()[0]) for line in lines]

    def check(self, name: str, record: Callable[[dict], dict]) -> None:
        """Raises unless everything arrived as it was issued, and nothing was dead-lettered."""
        found: dict[str, dict] = {}
        for event in map(record, self.upstream.events(name)):
            found[event["eventID"]] = event
        if found != self.issued:
            lost = self.issued.keys() - found.keys()
            changed = [key for key in found if self.issued.get(key) != found[key]]
            raise lane.LaneFailed(f"lost {len(lost)} {sorted(lost)[:2]}, invented or changed {changed[:2]}")
        letters = self.folder / f"{name}-dead-letters.ndjson"
        if letters.exists() and letters.read_bytes():
            raise lane.LaneFailed(f"dead-lettered: {letters.read_text()[:300]}")

    def add(self, name: str, files: list[lane.LogFile]) -> int:
        """Puts log files into a sink's folder, each at once; the number of their events."""
        folder = self.folder / f"{name}-files"
        folder.mkdir(exist_ok=True)
        for file in files:
            half = self.folder / f"{file.name}.new"
            half.write_bytes(file.stored)
            half.rename(folder / file.name)
        return sum(len(file.records) for file in files)

    def deliver(self, name: str, sink: str, record: Callable[[dict], dict]) -> None:
        """Delivers a part, so that the limit is learnt, then the rest, while the receiver is killed and comes back."""
        port, begun = lane.free_port(), len(self.statuses())
        stored = lambda: len(self.upstream.events(name))  # noqa: E731
        config = self.config(name, f'{sink}\ntls = {{ ca_file = "{self.pki.ca}" }}', port)
        first, rest = self.files[: len(self.files) // 3], self.files[len(self.files) // 3 :]
        learning = self.add(name, first)
        with lane.running(lane.Agent(self.binary, self.folder / name, config, port)) as agent:
            lane.wait_until("a third has arrived", 60, lambda: stored() >= learning)
            learnt = len(self.statuses())
            if 413 not in self.statuses()[begun:]:
                raise lane.LaneFailed("nginx never answered 413: the batches were to be too large at first")
            limit = agent.metrics().total("trailship_sink_batch_limit_bytes", sink=name)
            if not 0 < limit <= BODY_BYTES_MAX:
                raise lane.LaneFailed(f"the limit is thought to be {limit:.0f} bytes")
            self.add(name, rest)
            lane.wait_until("more has arrived", 60, lambda: stored() > learning, every=0.01)
            self.upstream.kill()
            lane.wait_until("502", 30, lambda: 502 in self.statuses()[learnt:], every=0.05)
            self.upstream.start()
            everything = lambda: {event["eventID"] for event in map(record, self.upstream.events(name))}  # noqa: E731
            lane.wait_until("everything has arrived", 90, lambda: everything() >= self.issued.keys())
            agent.stop()
        self.check(name, record)
        if 413 in self.statuses()[learnt:]:
            raise lane.LaneFailed("what was learnt of the limit was forgotten")


def lines_by_http(bench: Bench) -> None:
    """The sink `http`."""
    sink = f'type = "http"\nurl = "https://127.0.0.1:{bench.port}/in"\ncompression = "none"'
    bench.deliver("http", sink, lambda event: {key: value for key, value in event.items() if key != "trailship"})


def events_by_hec(bench: Bench) -> None:
    """The sink `splunk_hec`."""
    sink = (
        f'type = "splunk_hec"\nendpoints = ["https://127.0.0.1:{bench.port}"]\n'
        'token = "an-example"\nack = false\ncompression = "none"'
    )
    bench.deliver("splunk", sink, lambda event: event["event"])


def a_stranger_is_not_spoken_to(bench: Bench) -> None:
    """Without the private authority nothing is sent."""
    before, path = len(bench.statuses()), bench.folder / "stranger.toml"
    bench.add("stranger", [])
    sink = f'type = "http"\nurl = "https://127.0.0.1:{bench.port}/in"'
    path.write_text(bench.config("stranger", sink, lane.free_port()))
    command = [bench.binary, "check", "--config", path]
    run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=60)
    if run.returncode == 0 or "tls: " not in run.stdout:
        raise lane.LaneFailed(f"`check` did not notice: {run.stdout[-300:]}")
    if len(bench.statuses()) != before:
        raise lane.LaneFailed("a request was sent all the same")


CASES: list[Callable[[Bench], None]] = [lines_by_http, events_by_hec, a_stranger_is_not_spoken_to]


@contextlib.contextmanager
def running(nginx: str, binary: Path, folder: Path) -> Iterator[Bench]:
    """nginx with its receiver, until the block ends."""
    upstream, port, pki = Upstream(folder), lane.free_port(), private_ca.make(folder / "pki")
    values = {"folder": folder, "port": port, "certificate": pki.certificate, "key": pki.key, "limit": BODY_BYTES_MAX}
    (folder / "nginx.conf").write_text(CONFIG.format(**values, upstream=upstream.port))
    files = lane.sample(binary, folder / "made", files=60, events=100, seed=31)
    records = [json.loads(record, parse_float=str) for file in files for record in file.records]
    issued = {record["eventID"]: record for record in records}
    if len(issued) != len(records):
        raise lane.LaneFailed("the sample has events without an id of their own")
    with (folder / "nginx.log").open("wb") as log:
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        upstream.start()
        lane.wait_until("nginx", 20, lambda: server.poll() is not None or (folder / "nginx.pid").exists())
        if server.poll() is not None:
            raise lane.LaneFailed(f"nginx ended: {(folder / 'nginx.log').read_text()[-300:]}")
        (folder / "access.log").touch()
        yield Bench(binary, folder, port, upstream, pki, files, issued)
    finally:
        server.terminate()
        server.wait(20)
        if upstream.process is not None and upstream.process.poll() is None:
            upstream.kill()


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    nginx = fetch(tools)
    # Its worker runs as somebody else where it is started by root.
    folder.chmod(0o755)
    results: list[tuple[str, str | None]] = []
    with running(nginx, binary, folder) as bench:
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except lane.LaneFailed as error:
                results.append((case.__name__, str(error)))
    return results
