"""Splunk's own client for the HTTP Event Collector against the stand-in: what it accepts, a real collector would too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import servers

import lane

HERE = Path(__file__).resolve().parent / "splunk-logging"
SECONDS = 120


class Bench:
    """The stand-ins in a process of their own, and the client in its folder."""

    def __init__(self, client: Path, addresses: dict) -> None:
        self.client = client
        self.url: str = addresses["splunk_hec"]["url"]
        self.token: str = addresses["splunk_hec"]["token"]

    def send(self, events: list[dict], batch: int = 1, retries: int = 0, token: str = "") -> list[dict]:
        """What the client was told, in order."""
        settings = {"url": self.url, "token": token or self.token, "events": events, "batch": batch, "retries": retries}
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        run = subprocess.run(
            ["node", "send.js", json.dumps(settings)],
            cwd=self.client,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if run.returncode != 0:
            raise lane.LaneFailed(f"the client ended with exit code {run.returncode}: {run.stderr[-300:]}")
        return [json.loads(line) for line in run.stdout.splitlines()]

    def counts(self) -> dict:
        """What the stand-in has counted."""
        return json.loads(lane.fetch(f"{self.url}/_testkit/counts")[1])

    def mode(self, mode: dict) -> None:
        """Changes what goes wrong."""
        request = urllib.request.Request(f"{self.url}/_testkit/mode", json.dumps(mode).encode(), method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()

    def evidence(self) -> str:
        """What the stand-in testifies."""
        return lane.fetch(f"{self.url}/_testkit/evidence")[1].decode()


def events(name: str, count: int) -> list[dict]:
    """So many events, with ids of their own."""
    return [{"eventID": f"{name}-{at}", "eventName": "ConsoleLogin", "text": 'ü "quoted"\n'} for at in range(count)]


def digest(event: dict) -> str:
    """The start of the hash of an event as the client writes it, which is how the stand-in testifies to it."""
    return hashlib.sha256(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()[:32]


def expect(what: str, found: object, expected: object) -> None:
    """Raises unless they are equal."""
    if found != expected:
        raise lane.LaneFailed(f"{what}: {found!r}, and not {expected!r}")


GOOD = {"status": 200, "body": {"text": "Success", "code": 0}, "failed": None}


def single_events_are_accepted(bench: Bench) -> None:
    """A request each."""
    expect("answers", bench.send(events("single", 3)), [GOOD] * 3)
    expect("stored", bench.counts()["stored"], 3)


def batches_are_accepted_whole(bench: Bench) -> None:
    """Envelopes one after the other, as the client writes them: `time` as text among them."""
    before = bench.counts()["stored"]
    expect("answers", bench.send(events("batch", 25), batch=10), [GOOD] * 3)
    expect("stored", bench.counts()["stored"] - before, 25)
    evidence = bench.evidence()
    missing = [event["eventID"] for event in events("batch", 25) if digest(event) not in evidence]
    expect("events that the stand-in did not see as they were sent", missing, [])


def a_wrong_token_is_told_by_its_code(bench: Bench) -> None:
    """The client knows the code, and nothing is stored."""
    before = bench.counts()["stored"]
    told = bench.send(events("wrong", 1), token="22222222-2222-2222-2222-222222222222")
    expect("the client's error", told[0], {"error": "Invalid token", "code": 4})
    expect("status", told[1]["status"], 403)
    expect("stored", bench.counts()["stored"] - before, 0)


def a_reset_connection_is_tried_again(bench: Bench) -> None:
    """By the client; the events are stored once."""
    before = bench.counts()["stored"]
    bench.mode({"failure": "reset", "requests": 2})
    expect("answers", bench.send(events("again", 10), batch=10, retries=4), [GOOD])
    expect("stored", bench.counts()["stored"] - before, 10)


def a_busy_collector_is_told_by_its_code(bench: Bench) -> None:
    """As Splunk tells it: 503, code 9."""
    bench.mode({"failure": {"status": 503}, "requests": 1})
    told = bench.send(events("busy", 1))
    expect("the client's error", told[0], {"error": "Server is busy", "code": 9})


CASES: list[Callable[[Bench], None]] = [
    single_events_are_accepted,
    batches_are_accepted_whole,
    a_wrong_token_is_told_by_its_code,
    a_reset_connection_is_tried_again,
    a_busy_collector_is_told_by_its_code,
]


def fetch_client(tools: Path) -> Path:
    """The folder with the client, at the versions of the lock file."""
    version = json.loads((HERE / "package.json").read_text())["dependencies"]["splunk-logging"]
    home = tools / f"splunk-logging-{version}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise servers.CannotBeHad("needs node and npm")
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "send.js"):
        shutil.copyfile(HERE / name, home / name)
    if not (home / "ready").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=SECONDS)
        if run.returncode != 0:
            lines = [line for line in run.stderr.splitlines() if line.strip()]
            raise servers.CannotBeHad(f"npm: {lines[0][:300] if lines else 'no word of why'}")
        (home / "ready").touch()
    return home


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    client = fetch_client(tools)
    standins = binary.parent / "testkit"
    results: list[tuple[str, str | None]] = []
    place = folder / "stand-ins"
    with (folder / "testkit.log").open("wb") as log:
        process = subprocess.Popen([standins, "destinations", "--dir", place], stdout=log, stderr=log)
    try:
        addresses = place / "addresses.json"
        lane.wait_until("the stand-ins listen", 30, lambda: addresses.exists() or process.poll() is not None)
        bench = Bench(client, json.loads(addresses.read_text()))
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except lane.LaneFailed as error:
                results.append((case.__name__, str(error)))
    finally:
        process.terminate()
        process.wait(30)
    return results
