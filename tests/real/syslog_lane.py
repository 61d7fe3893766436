"""The real binary with Debian's rsyslog and syslog-ng as receivers, over TLS, with the snippets that deploy/ ships."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import servers

import lane

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = ROOT / "deploy" / "syslog"
CERTIFICATES = ROOT / "testkit" / "tls"
LARGE_BYTES = 250_000
MESSAGE_BYTES = "1MiB"
"""What the snippets let the receivers take."""


@dataclass
class Receiver:
    """A receiver with the shipped snippet, on a port and with a file of its own."""

    name: str
    home: Path
    folder: Path
    port: int = field(default_factory=lane.free_port)
    process: subprocess.Popen | None = None

    @property
    def events(self) -> Path:
        """Where it writes what it receives."""
        return self.folder / "cloudtrail.ndjson"

    def snippet(self, folder: str) -> str:
        """The shipped snippet with the port, the certificates and the file of this run in the place of its own."""
        text = (SNIPPETS / f"{self.name}.conf").read_text()
        places = {
            "6514": str(self.port),
            f"{folder}/tls/ca.pem": str(CERTIFICATES / "authority.pem"),
            f"{folder}/tls/cert.pem": str(CERTIFICATES / "server.pem"),
            f"{folder}/tls/key.pem": str(CERTIFICATES / "server.key"),
            "/var/log/cloudtrail.ndjson": str(self.events),
        }
        for old, new in places.items():
            if old not in text and not old.endswith("ca.pem"):
                raise lane.LaneFailed(f"{self.name}.conf does not say {old}")
            text = text.replace(old, new)
        return text

    def command(self) -> list[str]:
        """What runs it, in the foreground."""
        config, state = self.folder / f"{self.name}.conf", self.folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        if self.name == "rsyslog":
            work = f'global(workDirectory="{state}")\n'
            config.write_text(work + self.snippet("/etc/rsyslog.d"))
            modules = next(self.home.glob("usr/lib/*/rsyslog"))
            return [f"{self.home}/usr/sbin/rsyslogd", "-n", "-f", config, "-i", state / "pid", "-M", modules]
        version = next(self.home.glob("usr/lib/syslog-ng/[0-9]*"))
        config.write_text(f"@version: {version.name}\n" + self.snippet("/etc/syslog-ng"))
        files = [f"--{name}={state / name}" for name in ("persist-file", "control", "pidfile")]
        binary = f"{self.home}/usr/sbin/syslog-ng"
        return [binary, "-F", "--no-caps", "--stderr", "-f", config, f"--module-path={version}", *files]

    def start(self) -> None:
        """Starts it and waits until it listens."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=libraries(self.home))
        lane.wait_until(f"{self.name} to listen", 20, self.listens, every=0.1)

    def listens(self) -> bool:
        """Whether its port is open; raises where it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / f"{self.name}.log").read_text(errors="replace")
            raise lane.LaneFailed(f"{self.name} ended with exit code {self.process.returncode}: {log[-400:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, number: signal.Signals) -> None:
        """Sends it a signal that ends it."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)

    def lines(self) -> list[bytes]:
        """The whole lines that it has written."""
        text = self.events.read_bytes() if self.events.exists() else b""
        return [line for line in text.split(b"\n")[:-1] if line.strip()]


def libraries(home: Path) -> dict[str, str]:
    """The environment in which programs of the unpacked packages find their libraries."""
    folders = [*home.glob("usr/lib/*-linux-gnu*"), *home.glob("lib/*-linux-gnu*"), home / "usr/lib/syslog-ng"]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, folders))}


@contextlib.contextmanager
def running(receiver: Receiver) -> Iterator[Receiver]:
    """The receiver, started; it never outlives the block."""
    receiver.folder.mkdir(parents=True, exist_ok=True)
    try:
        receiver.start()
        yield receiver
    finally:
        if receiver.process is not None and receiver.process.poll() is None:
            receiver.end(signal.SIGKILL)


@dataclass
class Bench:
    """What each case needs."""

    binary: Path
    home: Path
    name: str
    folder: Path

    def receiver(self, case: str) -> Receiver:
        """A receiver in a folder of its own."""
        return Receiver(self.name, self.home, self.folder / case)

    def config(self, receiver: Receiver) -> Path:
        """The agent's configuration."""
        path = receiver.folder / "trailship.toml"
        path.write_text(
            f"""
[agent]
state_dir = "{receiver.folder}/agent"

[sinks.siem]
type = "syslog"
endpoints = ["tls://localhost:{receiver.port}"]
accept_unacknowledged = true
max_message_bytes = "{MESSAGE_BYTES}"
oversized = "dead_letter"
tls = {{ ca_file = "{CERTIFICATES}/authority.pem" }}

[dead_letter]
type = "file"
path = "{receiver.folder}/dead-letters.ndjson"
durable = true
"""
        )
        return path

    def start_ship(self, receiver: Receiver, path: Path) -> subprocess.Popen:
        """`trailship ship`, started."""
        command = [self.binary, "ship", path, "--config", self.config(receiver)]
        with (receiver.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(command, env=lane.environment(), stdout=log, stderr=log)

    def ship(self, receiver: Receiver, path: Path) -> None:
        """`trailship ship` to its end."""
        finish(receiver, self.start_ship(receiver, path))


def finish(receiver: Receiver, agent: subprocess.Popen) -> None:
    """Waits until the agent ends; raises unless it does with 0."""
    try:
        code = agent.wait(120)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
        code = "none within two minutes"
    if code != 0:
        log = (receiver.folder / "agent.log").read_text(errors="replace")
        raise lane.LaneFailed(f"`ship` ended with exit code {code}: {log[-600:]}")


def large(folder: Path) -> lane.LogFile:
    """A log file with one event of 250 KB between small ones."""
    folder.mkdir(parents=True)
    name = "111122223333_CloudTrail_us-east-1_20240501T1200Z_abcdefgh12345678.json.gz"

    def event(number: int, text: str) -> dict:
        identity = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
        parameters = {"text": text}
        time = "2024-05-01T12:00:00Z"
        return {"eventName": "Put", "eventTime": time, "userIdentity": identity, "requestParameters": parameters} | {
            "eventID": f"00000000-aaaa-bbbb-cccc-{number:012}"
        }

    # Tabs, quotes and all kinds of characters, since receivers like to escape them.
    texts = ["small", "größe \t \" \\ € 𝄞 \u007f " * (LARGE_BYTES // 24), "small again"]
    document = json.dumps({"Records": [event(*each) for each in enumerate(texts)]}, ensure_ascii=False)
    (folder / name).write_bytes(gzip.compress(document.encode()))
    return lane.LogFile.read(folder / name)


def issued_in(folder: Path, files: list[lane.LogFile]) -> dict[lane.Position, bytes]:
    """The records of log files by the positions that `ship` gives them."""
    paths = {path.name: path for path in folder.rglob("*.json.gz")}
    return {
        ("file", str(paths[file.name]), number): record for file in files for number, record in enumerate(file.records)
    }


def every_event_arrives_once(bench: Bench) -> None:
    """Byte for byte, and nothing else."""
    with running(bench.receiver("once")) as receiver:
        logs = receiver.folder / "files"
        files = lane.sample(bench.binary, logs, files=10, events=100, seed=31)
        issued = issued_in(logs, files)
        bench.ship(receiver, logs)
        lane.wait_until("the last event", 20, lambda: len(receiver.lines()) >= len(issued))
        lane.judge(issued, receiver.lines()).check()


def an_event_of_250_kb_arrives_intact(bench: Bench) -> None:
    """And those around it."""
    with running(bench.receiver("large")) as receiver:
        logs = receiver.folder / "files"
        file = large(logs)
        if max(map(len, file.records)) < LARGE_BYTES:
            raise lane.LaneFailed("the large event is not large")
        bench.ship(receiver, logs)
        lane.wait_until("the last event", 20, lambda: len(receiver.lines()) >= 3)
        lane.judge(issued_in(logs, [file]), receiver.lines()).check()


def what_a_killed_receiver_had_not_kept_comes_again(bench: Bench) -> None:
    """It is killed within the window of everything that was sent; nothing may be missing after its restart."""
    with running(bench.receiver("killed")) as receiver:
        logs = receiver.folder / "files"
        issued = issued_in(logs, lane.sample(bench.binary, logs, files=10, events=100, seed=32))
        agent = bench.start_ship(receiver, logs)
        lane.wait_until("the first event", 20, lambda: bool(receiver.lines()), every=0.05)
        receiver.end(signal.SIGKILL)
        # Whatever it had written to its file is torn away: as if it had been in memory only.
        receiver.events.unlink()
        time.sleep(1)
        receiver.start()
        finish(receiver, agent)
        lane.wait_until("the last event", 20, lambda: len(receiver.lines()) >= len(issued))
        lane.judge(issued, receiver.lines()).check(repeats_allowed=len(issued))


CASES: tuple[Callable[[Bench], None], ...] = (
    every_event_arrives_once,
    an_event_of_250_kb_arrives_intact,
    what_a_killed_receiver_had_not_kept_comes_again,
)

RSYSLOG = ("rsyslog", "rsyslog-openssl", "libestr0", "libfastjson4", "liblognorm5")
SYSLOG_NG = ("syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0")


def rsyslog(binary: Path, tools: Path, folder: Path, more: Path | None) -> list[tuple[str, str | None]]:
    """Each case with rsyslog."""
    return run(Bench(binary, fetch(tools, "rsyslog", "rsyslogd", RSYSLOG), "rsyslog", folder))


def syslog_ng(binary: Path, tools: Path, folder: Path, more: Path | None) -> list[tuple[str, str | None]]:
    """Each case with syslog-ng."""
    return run(Bench(binary, fetch(tools, "syslog-ng", "syslog-ng", SYSLOG_NG), "syslog-ng", folder))


def fetch(tools: Path, name: str, program: str, packages: tuple[str, ...]) -> Path:
    """The folder of the unpacked packages, whose program finds its libraries."""
    home = servers.debian(tools, name, packages)
    found = subprocess.run(
        ["ldd", home / "usr" / "sbin" / program], env=libraries(home), capture_output=True, text=True, timeout=30
    )
    missing = [line.split()[0] for line in found.stdout.splitlines() if "not found" in line]
    if found.returncode != 0 or missing:
        raise servers.CannotBeHad(f"{program} lacks {', '.join(missing) or 'everything'}")
    return home


def run(bench: Bench) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    results: list[tuple[str, str | None]] = []
    for case in CASES:
        try:
            case(bench)
            results.append((case.__name__, None))
        except lane.LaneFailed as error:
            results.append((case.__name__, str(error)))
    return results
