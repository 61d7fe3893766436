"""The real binary with the server of Elastic's go-lumber as its destination: by TCP and TLS, killed in the middle."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import servers

import lane
import private_ca

SOURCE = Path(__file__).resolve().parent / "go_lumber"

ENVELOPE = re.compile(
    rb',?(?:"@timestamp":"[^"]*",)?"@metadata":\{"beat":"trailship","type":"_doc","version":"[^"]*","_id":"([^"]*)"\}'
    rb'(?=,"trailship":\{(?:[^{}]|\{[^{}]*\})*\}\}$)'
)
"""What Logstash is told beside the record and `trailship`."""


def build(tools: Path) -> Path:
    """The receiver, built from its pinned modules."""
    binary = tools / "go-lumber-receiver"
    if shutil.which("go") is None:
        raise servers.CannotBeHad("needs go")
    tools.mkdir(parents=True, exist_ok=True)
    more = {"GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0"}
    run = subprocess.run(
        ["go", "build", "-o", binary, "."],
        cwd=SOURCE,
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if run.returncode != 0:
        lines = [line for line in run.stderr.splitlines() if not line.startswith("go: downloading")]
        raise servers.CannotBeHad(f"the Go module proxy: {' '.join(lines)[:300]}")
    return binary


@dataclass
class Receiver:
    """The server, which can be killed and started again with what it has on the disk."""

    binary: Path
    folder: Path
    tls: private_ca.Pki | None = None
    delay: str = "0s"
    port: int = field(default_factory=lane.free_port)
    process: subprocess.Popen | None = None

    @property
    def out(self) -> Path:
        """What it has stored, a line an event."""
        return self.folder / "received.ndjson"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [self.binary, "-bind", f"127.0.0.1:{self.port}", "-out", self.out, "-delay", self.delay]
        if self.tls is not None:
            command += ["-cert", self.tls.certificate, "-key", self.tls.key]
        with (self.folder / "receiver.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        lane.wait_until("go-lumber's server", 20, self.listens)

    def listens(self) -> bool:
        """Whether its port is open; raises where it has ended."""
        if self.process.poll() is not None:
            raise lane.LaneFailed(f"go-lumber's server ended with exit code {self.process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL: what is under way is lost, what was stored is not."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stored(self) -> int:
        """Events on the disk."""
        return self.out.read_bytes().count(b"\n") if self.out.exists() else 0


@contextlib.contextmanager
def running(receiver: Receiver) -> Iterator[Receiver]:
    """The server until the block ends; the tail of its log is printed where that fails."""
    try:
        receiver.start()
        yield receiver
    except BaseException:
        log = receiver.folder / "receiver.log"
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:]))
        raise
    finally:
        if receiver.process is not None and receiver.process.poll() is None:
            receiver.kill()


@dataclass
class Bench:
    """What each case needs."""

    binary: Path
    receiver: Path
    folder: Path
    files: list[lane.LogFile]

    def config(self, name: str, receiver: Receiver, more: str) -> Path:
        """A configuration with the receiver as its one destination."""
        scheme = "tcp" if receiver.tls is None else "tls"
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""
[agent]
state_dir = "{self.folder}/state-{name}"

[sinks.logstash]
type = "logstash"
endpoints = ["{scheme}://127.0.0.1:{receiver.port}"]
retry = {{ initial = "100ms", max = "1s" }}
{more}

[dead_letter]
type = "file"
path = "{self.folder}/{name}-dead-letters.ndjson"
durable = true
"""
        )
        return path

    def check(self, name: str, receiver: Receiver, more: str = "") -> tuple[int, str]:
        """`trailship check`: its exit code, and what it says."""
        command = [self.binary, "check", "--config", self.config(name, receiver, more)]
        run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=60)
        return run.returncode, run.stdout

    def begin(self, name: str, receiver: Receiver, more: str = "") -> subprocess.Popen:
        """`trailship ship` to the receiver, in a process of its own."""
        command = [self.binary, "ship", self.folder / "files", "--config", self.config(name, receiver, more)]
        return subprocess.Popen(
            command, env=lane.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, process: subprocess.Popen) -> None:
        """Waits for its end; raises unless that is good."""
        output, _ = process.communicate(timeout=180)
        if process.returncode != 0:
            raise lane.LaneFailed(f"`ship` ended with exit code {process.returncode}: {output[-600:]}")

    def judge(self, receiver: Receiver, repeats_allowed: int = 0) -> None:
        """Raises unless every record arrived byte for byte, with its id beside it."""
        issued = {
            ("file", str(path), number): record
            for file, path in zip(self.files, sorted((self.folder / "files").rglob("*.json.gz")), strict=True)
            for number, record in enumerate(file.records)
        }
        lines = []
        for line in receiver.out.read_bytes().splitlines():
            found = ENVELOPE.search(line)
            if found is None:
                raise lane.LaneFailed(f"no @metadata before trailship: {line[-300:]}")
            identity = b'"eventID":"%s"' % found[1]
            if identity not in line:
                raise lane.LaneFailed(f"_id is not the event's: {line[-300:]}")
            before = line[: found.start()]
            lines.append(before + (b"" if before == b"{" else b",") + line[found.end() + 1 :])
        lane.judge(issued, lines).check(repeats_allowed)


def every_event_arrives_once(bench: Bench) -> None:
    """By TCP, in compressed windows and in plain ones of another size."""
    for name, more in (("deflate", ""), ("plain", 'compression = "none"\nwindow = 77')):
        with running(Receiver(bench.receiver, bench.folder / name)) as receiver:
            bench.finish(bench.begin(name, receiver, more))
            bench.judge(receiver)


def by_tls_too_and_only_with_the_right_authority(bench: Bench) -> None:
    """A certificate that nobody vouches for is refused, and nothing is sent."""
    pki = private_ca.make(bench.folder / "pki")
    with running(Receiver(bench.receiver, bench.folder / "tls", tls=pki)) as receiver:
        code, output = bench.check("untrusted", receiver)
        if code == 0 or "tls: " not in output or receiver.stored() != 0:
            raise lane.LaneFailed(f"`check` did not notice that nobody vouches for the server: {output[-300:]}")
        code, output = bench.check("trusted", receiver, f'tls = {{ ca_file = "{pki.ca}" }}')
        if code != 0:
            raise lane.LaneFailed(f"`check` found fault: {output[-300:]}")
        bench.finish(bench.begin("tls", receiver, f'tls = {{ ca_file = "{pki.ca}" }}'))
        bench.judge(receiver)


def a_server_that_is_slow_is_waited_for(bench: Bench) -> None:
    """It acknowledges 0 every 100 ms, and needs longer than the sink's timeout for a window."""
    with running(Receiver(bench.receiver, bench.folder / "slow", delay="2500ms")) as receiver:
        more = 'timeout = "1s"\nconnect_timeout = "1s"\nbatch = { max_events = 1000 }'
        bench.finish(bench.begin("slow", receiver, more))
        bench.judge(receiver)


def a_server_that_is_killed_in_the_middle_loses_nothing(bench: Bench) -> None:
    """Killed twice between storing and acknowledging, and started again a second later."""
    window = 50
    with running(Receiver(bench.receiver, bench.folder / "killed", delay="100ms")) as receiver:
        ship = bench.begin("killed", receiver, f"batch = {{ max_events = {window} }}\nconcurrency = {{ max = 4 }}")
        for part in (1, 2):
            share = part * sum(len(file.records) for file in bench.files) // 3
            arrived = lambda: receiver.stored() >= share or ship.poll() is not None  # noqa: B023, E731
            lane.wait_until("a third has arrived", 60, arrived, every=0.02)
            if ship.poll() is not None:
                raise lane.LaneFailed(f"it ended too soon: {ship.communicate()[0][-600:]}")
            receiver.kill()
            time.sleep(1)
            receiver.start()
        bench.finish(ship)
        # What four connections had under way, each time.
        bench.judge(receiver, repeats_allowed=2 * 4 * window)


CASES: list[Callable[[Bench], None]] = [
    every_event_arrives_once,
    by_tls_too_and_only_with_the_right_authority,
    a_server_that_is_slow_is_waited_for,
    a_server_that_is_killed_in_the_middle_loses_nothing,
]


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    receiver = build(tools)
    files = lane.sample(binary, folder / "files", files=20, events=100, seed=21)
    bench = Bench(binary, receiver, folder, files)
    results: list[tuple[str, str | None]] = []
    for case in CASES:
        try:
            case(bench)
            results.append((case.__name__, None))
        except lane.LaneFailed as error:
            results.append((case.__name__, str(error)))
    return results
