"""What the lanes that drive the real binary share: ports, log files, the agent's process, and the judge."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Position = tuple[str, str, int]
"""Bucket, key, and the record's place in the log file."""

LOG_FILE_NAME = re.compile(
    r"(?P<account>\d{12})_CloudTrail(?:-[A-Za-z]+)?_(?P<region>[a-z0-9-]+)_(?P<day>\d{8})T\d{4}Z_\w+\.json(?:\.gz)?$"
)


class LaneFailed(Exception):
    """A lane found what must not be; the text says what."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, seconds: float, condition: Callable[[], bool], every: float = 0.2) -> None:
    """Waits for `condition`; raises `LaneFailed` naming `what` when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LaneFailed(f"after {seconds:.0f} s still waiting for: {what}")
        time.sleep(every)


def fetch(url: str, timeout: float = 5) -> tuple[int, bytes]:
    """Status and body of a GET, whatever the status; never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def answers(url: str) -> bool:
    """Whether something answers at `url` with a status below 500."""
    try:
        return fetch(url, timeout=2)[0] < 500
    except OSError:
        return False


# Log files


def records_of(document: bytes) -> list[bytes]:
    """The elements of `Records`, each as the very bytes that stand in the document."""
    text = document.decode("utf-8")
    decoder = json.JSONDecoder()
    head = re.match(r'\s*\{\s*"Records"\s*:\s*\[\s*', text)
    if head is None:
        raise ValueError("not a log file that begins with Records")
    records, at = [], head.end()
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        records.append(text[at:end].encode("utf-8"))
        at = re.compile(r"\s*,?\s*").match(text, end).end()
    return records


@dataclass(frozen=True)
class LogFile:
    """One log file: its name as AWS gives it, its bytes as stored, and its records."""

    name: str
    stored: bytes
    records: list[bytes]

    @staticmethod
    def read(path: Path) -> LogFile:
        """Reads a file, inflated where it is gzip."""
        stored = path.read_bytes()
        document = gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored
        return LogFile(path.name, stored, records_of(document))

    def key(self, prefix: str = "") -> str:
        """The object's key as CloudTrail would choose it."""
        part = LOG_FILE_NAME.search(self.name)
        if part is None:
            raise ValueError(f"not a log file's name: {self.name}")
        day = part["day"]
        folder = f"AWSLogs/{part['account']}/CloudTrail/{part['region']}/{day[:4]}/{day[4:6]}/{day[6:]}"
        return f"{prefix}{folder}/{self.name}"


def sample(binary: Path, folder: Path, files: int, events: int, seed: int) -> list[LogFile]:
    """Log files made by `trailship sample`."""
    subprocess.run(
        [binary, "sample", "--out", folder, "--files", str(files), "--events", str(events), "--seed", str(seed)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    found = sorted(path for path in folder.rglob("*.json.gz") if LOG_FILE_NAME.search(path.name))
    if len(found) != files:
        raise LaneFailed(f"`trailship sample --files {files}` wrote {len(found)} log files")
    return [LogFile.read(path) for path in found]


# The agent


@dataclass
class Agent:
    """The binary under test, as `trailship run`, with its configuration in a folder of its own."""

    binary: Path
    folder: Path
    config: str
    port: int
    process: subprocess.Popen | None = None

    @property
    def log(self) -> Path:
        """Where its standard error goes."""
        return self.folder / "agent.log"

    def start(self) -> None:
        """Starts it and waits for `/livez`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "trailship.toml"
        path.write_text(self.config)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "run", "--config", path], env=environment(), stdout=log, stderr=log, cwd=self.folder
            )
        wait_until("the agent's /livez", 30, self.lives)

    def lives(self) -> bool:
        """Whether it answers `/livez`; raises where the process has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise LaneFailed(f"the agent ended with exit code {self.process.returncode}")
        return answers(f"http://127.0.0.1:{self.port}/livez")

    def send(self, number: signal.Signals) -> None:
        """Sends the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, seconds: float = 40) -> None:
        """SIGTERM; raises unless it ends with 0 in time."""
        assert self.process is not None
        self.send(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise LaneFailed(f"the agent did not end within {seconds:.0f} s of SIGTERM") from None
        if code != 0:
            raise LaneFailed(f"the agent ended with exit code {code} after SIGTERM")

    def metrics(self) -> Metrics:
        """What `/metrics` says now."""
        status, body = fetch(f"http://127.0.0.1:{self.port}/metrics")
        if status != 200:
            raise LaneFailed(f"/metrics answered {status}")
        return Metrics(body.decode("utf-8"))


@contextlib.contextmanager
def running(agent: Agent) -> Iterator[Agent]:
    """The agent, started; where the block fails its last log lines are printed, and it never outlives the block."""
    try:
        agent.start()
        yield agent
    except BaseException:
        if agent.log.exists():
            sys.stderr.write("".join(agent.log.read_text(errors="replace").splitlines(keepends=True)[-40:]))
        raise
    finally:
        if agent.process is not None and agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait()


def environment() -> dict[str, str]:
    """The environment for the binary: test credentials, and no proxy towards this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TRAILSHIP"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@dataclass(frozen=True)
class Metrics:
    """The text of `/metrics`."""

    text: str

    LINE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")

    def names(self) -> set[str]:
        """Every metric that has a `# TYPE` line."""
        return set(re.findall(r"^# TYPE (\w+) ", self.text, re.MULTILINE))

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series of that name that carry the labels."""
        total = 0.0
        for line in self.text.splitlines():
            found = self.LINE.match(line)
            if found is None or found["name"] != name:
                continue
            if all(f'{key}="{value}"' in (found["labels"] or "").split(",") for key, value in labels.items()):
                total += float(found["value"])
        return total

    def check_conservation(self, sink: str) -> None:
        """Raises unless what was offered to the sink is the sum of its outcomes and of what is in flight."""
        offered = self.total("trailship_sink_events_offered_total", sink=sink)
        settled = self.total("trailship_sink_events_total", sink=sink)
        flying = self.total("trailship_sink_events_in_flight", sink=sink)
        if offered != settled + flying:
            raise LaneFailed(f"sink {sink}: offered {offered:.0f}, outcomes {settled:.0f}, in flight {flying:.0f}")


# The judge


@dataclass
class Findings:
    """What a sink holds, compared with what was issued."""

    issued: int = 0
    stored: int = 0
    lost: list[Position] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    altered: list[Position] = field(default_factory=list)
    repeated: list[Position] = field(default_factory=list)
    unclassified: list[Position] = field(default_factory=list)

    def check(self, repeats_allowed: int = 0) -> None:
        """Raises `LaneFailed` unless every record is there as it was issued, and classified."""
        for name in ("lost", "invented", "altered", "unclassified"):
            found = getattr(self, name)
            if found:
                raise LaneFailed(f"{len(found)} {name}, such as {found[0]}")
        if len(self.repeated) > repeats_allowed:
            raise LaneFailed(f"{len(self.repeated)} stored twice, such as {self.repeated[0]}")


def judge(issued: dict[Position, bytes], lines: Iterable[bytes]) -> Findings:
    """Compares the lines of a file sink with the records issued, byte by byte.

    A line is the record as AWS wrote it with `,"trailship":{…}` before its last brace, and nothing else.
    """
    findings = Findings(issued=len(issued))
    seen: set[Position] = set()
    for line in lines:
        findings.stored += 1
        try:
            event = json.loads(line)
            additions = event["trailship"]
            position = (additions["bucket"], additions["key"], additions["record"])
            record = issued[position]
        except (ValueError, KeyError, TypeError):
            findings.invented.append(line[:200].decode("utf-8", "replace"))
            continue
        if position in seen:
            findings.repeated.append(position)
        seen.add(position)
        if not is_spliced(line, record, additions):
            findings.altered.append(position)
        if not is_classified(event):
            findings.unclassified.append(position)
    findings.lost = sorted(set(issued) - seen)
    return findings


def is_spliced(line: bytes, record: bytes, additions: dict) -> bool:
    """Whether `line` is `record` with the additions before its last brace."""
    head = record[:-1].rstrip() if record[:-1].strip() == b"{" else record[:-1] + b","
    head += b'"trailship":'
    if not (line.startswith(head) and line.endswith(b"}")):
        return False
    try:
        return json.loads(line[len(head) : -1]) == additions
    except ValueError:
        return False


def is_classified(event: dict) -> bool:
    """Whether the actor has a class other than `unknown`, which only CloudTrail's own `Unknown` may have."""
    unknown = (event.get("userIdentity") or {}).get("type") == "Unknown"
    allowed = {"unknown"} if unknown else {"principal", "aws_service", "none"}
    return event["trailship"].get("actor", {}).get("class") in allowed


def lines_in(folder: Path) -> Iterator[bytes]:
    """Every line of every file that a file sink wrote below `folder`."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield from path.read_bytes().splitlines()


def closing_line(lane: str, passed: int, failed: int, skipped: int = 0) -> str:
    """The one line that says how a lane ended."""
    return f"{lane}: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
