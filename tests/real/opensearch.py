"""The real binary with OpenSearch as its destination and the template that deploy/ ships."""

from __future__ import annotations

import gzip
import json
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import servers  # noqa: F401  (puts tests/python on the path)

import lane

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "opensearch" / "index-template.json"
INDICES = "cloudtrail-*"
ADDED = ("@timestamp", "trailship")
WHOLE = "event_original"
"""The key of the safe shape that holds the record as text."""


def call(method: str, url: str, body: object = None) -> dict:
    """One request with a JSON body; its answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        # A float's spelling is part of the record: 1.68E9 must come back as it was.
        return json.loads(answer.read(), parse_float=str)


@dataclass
class Bench:
    """What each case needs."""

    binary: Path
    folder: Path
    url: str
    events: dict[str, dict]

    def trailship(self, *arguments: str | Path) -> str:
        """Runs a command of the binary; its standard output. Raises unless it ends with 0."""
        config = self.folder / "trailship.toml"
        config.write_text(
            f"""
[agent]
state_dir = "{self.folder}/state"

[sinks.search]
type = "elasticsearch"
endpoints = ["{self.url}"]
index = "cloudtrail-%Y.%m.%d"

[dead_letter]
type = "file"
path = "{self.folder}/dead-letters.ndjson"
durable = true
"""
        )
        command = [self.binary, *arguments, "--config", config]
        run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=180)
        if run.returncode != 0:
            problem = (run.stdout + run.stderr)[-600:]
            raise lane.LaneFailed(f"`{arguments[0]}` ended with exit code {run.returncode}: {problem}")
        return run.stdout

    def ship(self, path: Path) -> None:
        """`trailship ship`, then makes what arrived visible."""
        self.trailship("ship", path)
        call("POST", f"{self.url}/{INDICES}/_refresh")

    def documents(self) -> dict[str, tuple[int, dict]]:
        """Every document: its version and its source, by id."""
        found: dict[str, tuple[int, dict]] = {}
        query: dict = {"size": 1000, "version": True, "sort": ["_doc"]}
        page = call("POST", f"{self.url}/{INDICES}/_search?scroll=1m", query)
        while page["hits"]["hits"]:
            for hit in page["hits"]["hits"]:
                if hit["_id"] in found:
                    raise lane.LaneFailed(f"{hit['_id']} stands in two indices")
                found[hit["_id"]] = (hit["_version"], hit["_source"])
            page = call("POST", f"{self.url}/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        return found

    def dead_letters(self) -> list[dict]:
        """What was dead-lettered."""
        place = self.folder / "dead-letters.ndjson"
        return [json.loads(line) for line in place.read_bytes().splitlines()] if place.exists() else []


def check_installs_the_shipped_template(bench: Bench) -> None:
    """`check` says that it is missing, `check --apply` installs it, `check` finds it."""
    missing = "is not installed"
    if missing not in bench.trailship("check"):
        raise lane.LaneFailed("`check` did not notice that there is no index template")
    bench.trailship("check", "--apply")
    if missing in bench.trailship("check"):
        raise lane.LaneFailed("`check --apply` left the index template missing")
    installed = call("GET", f"{bench.url}/_index_template/*cloudtrail*")["index_templates"][0]["index_template"]
    shipped = json.loads(TEMPLATE.read_text(), parse_float=str)
    if installed["template"]["mappings"] != shipped["template"]["mappings"]:
        raise lane.LaneFailed("the installed template is not the one in deploy/")


def every_event_is_stored_once(bench: Bench) -> None:
    """As many documents as events, each equal to its record."""
    bench.ship(bench.folder / "files")
    check_documents(bench)
    if bench.dead_letters():
        raise lane.LaneFailed(f"dead-lettered: {bench.dead_letters()[0]}")


def a_second_shipment_is_all_duplicates(bench: Bench) -> None:
    """Nothing is added and nothing overwritten."""
    bench.ship(bench.folder / "files")
    check_documents(bench)


def check_documents(bench: Bench) -> None:
    """Raises unless the index holds exactly the events, each written once."""
    documents = bench.documents()
    if documents.keys() != bench.events.keys():
        lost, invented = bench.events.keys() - documents.keys(), documents.keys() - bench.events.keys()
        raise lane.LaneFailed(f"lost {len(lost)} {sorted(lost)[:2]}, invented {len(invented)} {sorted(invented)[:2]}")
    for identity, (version, source) in documents.items():
        if version != 1:
            raise lane.LaneFailed(f"{identity} was overwritten: version {version}")
        if event_in(source) != bench.events[identity]:
            raise lane.LaneFailed(f"{identity} is not as it was issued: {json.dumps(source)[:300]}")


def event_in(source: dict) -> dict:
    """The event that a document stands for, in the normal or the safe shape."""
    if WHOLE in source:
        return json.loads(source[WHOLE], parse_float=str)
    return {key: value for key, value in source.items() if key not in ADDED}


def a_string_where_the_mapping_wants_an_object_is_not_lost(bench: Bench) -> None:
    """Stored by the second, safe try; its neighbours are stored as they are."""
    identity = "00000000-aaaa-bbbb-cccc-000000000001"
    neighbour = "00000000-aaaa-bbbb-cccc-000000000002"
    common = {"eventVersion": "1.08", "eventTime": "2024-05-01T12:00:00Z", "eventSource": "organizations.amazonaws.com"}
    odd = common | {"eventName": "CreatePolicy", "requestParameters": "a text", "eventID": identity}
    even = common | {"eventName": "ListPolicies", "requestParameters": {"a": "b"}, "eventID": neighbour}
    name = "111122223333_CloudTrail_us-east-1_20240501T1205Z_abcdefgh12345678.json.gz"
    folder = bench.folder / "odd"
    folder.mkdir()
    (folder / name).write_bytes(gzip.compress(json.dumps({"Records": [odd, even]}).encode()))
    bench.ship(folder)
    bench.events |= {identity: odd, neighbour: even}
    check_documents(bench)
    if bench.dead_letters():
        raise lane.LaneFailed(f"dead-lettered: {bench.dead_letters()[0]}")
    safe = {name for name, (_, source) in bench.documents().items() if WHOLE in source}
    if safe & {identity, neighbour} != {identity}:
        raise lane.LaneFailed(f"in the safe shape: {sorted(safe)}")


CASES: list[Callable[[Bench], None]] = [
    check_installs_the_shipped_template,
    every_event_is_stored_once,
    a_second_shipment_is_all_duplicates,
    a_string_where_the_mapping_wants_an_object_is_not_lost,
]


def collect(binary: Path, folder: Path, more: Path | None) -> dict[str, dict]:
    """Puts the log files of the lane into `folder`; their events by id."""
    files = lane.sample(binary, folder, files=20, events=100, seed=11)
    for path in sorted(more.glob("*.json")) if more else []:
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        files.append(lane.LogFile.read(folder / f"{path.name}.gz"))
    events = {}
    for record in (record for file in files for record in file.records):
        event = json.loads(record, parse_float=str)
        events[event.get("eventID") or event["eventId"]] = event
    return events


def run(binary: Path, tools: Path, folder: Path, more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it; a case builds on those before it."""
    results: list[tuple[str, str | None]] = []
    with servers.opensearch(tools, folder) as url:
        bench = Bench(binary, folder, url, collect(binary, folder / "files", more))
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except lane.LaneFailed as error:
                results.append((case.__name__, str(error)))
    return results
