"""The real binary with VictoriaLogs behind the bulk interface and the HTTP Event Collector: another server of both."""

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


def ship(binary: Path, folder: Path, name: str, sink: str) -> dict[str, dict]:
    """Ships generated log files to a sink; the records by the ids of their events."""
    files = lane.sample(binary, folder / f"{name}-files", files=20, events=100, seed=13)
    config = folder / f"{name}.toml"
    config.write_text(
        f"""
[agent]
state_dir = "{folder}/state"

[sinks.logs]
{sink}

[dead_letter]
type = "file"
path = "{folder}/dead-letters.ndjson"
durable = true
"""
    )
    command = [binary, "ship", folder / f"{name}-files", "--config", config]
    run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=180)
    if run.returncode != 0:
        raise lane.LaneFailed(f"`ship` ended with exit code {run.returncode}: {(run.stdout + run.stderr)[-600:]}")
    records = [json.loads(record) for file in files for record in file.records]
    return {record.get("eventID") or record["eventId"]: record for record in records}


def compare(issued: dict[str, dict], entries: list[dict], prefix: str, actor_class: str) -> None:
    """Raises unless there is one entry for each event, with the values of its own record. The server has no ids."""
    found = Counter()
    for entry in entries:
        identity = entry.get(f"{prefix}eventID") or entry[f"{prefix}eventId"]
        found[identity] += 1
        record = issued.get(identity, {})
        for name in ("eventName", "awsRegion"):
            shown, expected = entry.get(f"{prefix}{name}", ""), record.get(name) or ""
            if shown != expected:
                raise lane.LaneFailed(f"{identity}: {name} is {shown!r}, and not {expected!r}")
        if not entry.get(actor_class):
            raise lane.LaneFailed(f"{identity} says nothing of its actor")
    if found != Counter(issued.keys()):
        raise lane.LaneFailed(f"{len(issued)} events issued, {found.total()} entries of {len(found)} events found")


def every_event_arrives_through_the_bulk_interface(binary: Path, folder: Path, url: str) -> None:
    """As documents of an index."""
    sink = f"""
type = "elasticsearch"
endpoints = ["{url}/insert/elasticsearch"]
index = "cloudtrail"
document_id = "none"
"""
    issued = ship(binary, folder, "bulk", sink)
    some = "eventName:*"
    lane.wait_until("every entry", 30, lambda: len(query(url, f"{some} | fields eventName")) >= len(issued), every=0.5)
    entries = query(url, f"{some} | fields eventID, eventId, eventName, awsRegion, trailship.actor.class")
    compare(issued, entries, "", "trailship.actor.class")


def every_event_arrives_through_the_event_collector(binary: Path, folder: Path, url: str) -> None:
    """As events of Splunk, the additions as indexed fields, with the time of the event itself."""
    # No acknowledgement there, and any token is taken.
    sink = f"""
type = "splunk_hec"
endpoints = ["{url}"]
token = "11111111-1111-1111-1111-111111111111"
ack = false
"""
    issued = ship(binary, folder, "hec", sink)
    some = "sourcetype:=aws:cloudtrail"
    lane.wait_until("every entry", 30, lambda: len(query(url, f"{some} | fields source")) >= len(issued), every=0.5)
    fields = "_time, event.eventID, event.eventId, event.eventName, event.awsRegion, event.eventTime, fields.trailship_actor_class"
    entries = query(url, f"{some} | fields {fields}")
    compare(issued, entries, "event.", "fields.trailship_actor_class")
    timed = [entry for entry in entries if "event.eventTime" in entry]
    wrong = [entry for entry in timed if entry["_time"] != entry["event.eventTime"]]
    if wrong or not timed:
        raise lane.LaneFailed(f"{len(wrong)} of {len(timed)} entries have another time than their event: {wrong[:1]}")


CASES = [every_event_arrives_through_the_bulk_interface, every_event_arrives_through_the_event_collector]


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    results: list[tuple[str, str | None]] = []
    with servers.victoria_logs(tools, folder) as url:
        for case in CASES:
            try:
                case(binary, folder, url)
                results.append((case.__name__, None))
            except (lane.LaneFailed, OSError) as error:
                results.append((case.__name__, str(error)))
    return results
