"""The real binary with VictoriaLogs behind the bulk interface: another server of that protocol, in numbers and contents."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import servers  # noqa: F401  (puts tests/python on the path)

import lane


def query(url: str, text: str) -> list[dict]:
    """The answer to a query, one object a line."""
    data = urllib.parse.urlencode({"query": text}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/select/logsql/query", data, timeout=60) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


def every_event_arrives_with_its_contents(binary: Path, folder: Path, url: str) -> None:
    """As many entries as events, each with the values of its own record. It has no ids of documents."""
    files = lane.sample(binary, folder / "files", files=20, events=100, seed=13)
    issued = {}
    for record in (json.loads(record) for file in files for record in file.records):
        issued[record.get("eventID") or record["eventId"]] = record
    config = folder / "trailship.toml"
    config.write_text(
        f"""
[agent]
state_dir = "{folder}/state"

[sinks.logs]
type = "elasticsearch"
endpoints = ["{url}/insert/elasticsearch"]
index = "cloudtrail"
document_id = "none"

[dead_letter]
type = "file"
path = "{folder}/dead-letters.ndjson"
durable = true
"""
    )
    command = [binary, "ship", folder / "files", "--config", config]
    run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=180)
    if run.returncode != 0:
        raise lane.LaneFailed(f"`ship` ended with exit code {run.returncode}: {(run.stdout + run.stderr)[-600:]}")
    lane.wait_until("every entry", 30, lambda: len(query(url, "* | fields eventName")) >= len(issued), every=0.5)
    found = Counter()
    for entry in query(url, "* | fields eventID, eventId, eventName, awsRegion, trailship.actor.class"):
        identity = entry.get("eventID") or entry["eventId"]
        found[identity] += 1
        record = issued.get(identity, {})
        for name in ("eventName", "awsRegion"):
            if entry.get(name, "") != (record.get(name) or ""):
                raise lane.LaneFailed(f"{identity}: {name} is {entry.get(name)!r}, and not {record.get(name)!r}")
        if not entry.get("trailship.actor.class"):
            raise lane.LaneFailed(f"{identity} says nothing of its actor")
    if found != Counter(issued.keys()):
        raise lane.LaneFailed(f"{len(issued)} events issued, {found.total()} entries of {len(found)} events found")


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    case = every_event_arrives_with_its_contents
    with servers.victoria_logs(tools, folder) as url:
        try:
            case(binary, folder, url)
            return [(case.__name__, None)]
        except (lane.LaneFailed, OSError) as error:
            return [(case.__name__, str(error))]
