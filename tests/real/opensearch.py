"""The real binary with OpenSearch as its destination and the template that deploy/ ships."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
import urllib.request
import zlib
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
    node: servers.OpenSearch
    events: dict[str, dict]

    @property
    def url(self) -> str:
        """Where OpenSearch listens."""
        return self.node.url

    def command(self, *arguments: str | Path, sink: str = 'index = "cloudtrail-%Y.%m.%d"') -> list[str | Path]:
        """A command of the binary, with a configuration of its own."""
        config = self.folder / f"trailship-{zlib.crc32(sink.encode()):08x}.toml"
        config.write_text(
            f"""
[agent]
state_dir = "{self.folder}/state"

[sinks.search]
type = "elasticsearch"
endpoints = ["{self.url}"]
{sink}

[dead_letter]
type = "file"
path = "{self.folder}/dead-letters.ndjson"
durable = true
"""
        )
        return [self.binary, *arguments, "--config", config]

    def trailship(self, *arguments: str | Path, **sink: str) -> str:
        """Runs a command of the binary; its standard output. Raises unless it ends with 0."""
        command = self.command(*arguments, **sink)
        run = subprocess.run(command, env=lane.environment(), capture_output=True, text=True, timeout=180)
        if run.returncode != 0:
            problem = (run.stdout + run.stderr)[-600:]
            raise lane.LaneFailed(f"`{arguments[0]}` ended with exit code {run.returncode}: {problem}")
        return run.stdout

    def ship(self, path: Path) -> None:
        """`trailship ship`, then makes what arrived visible."""
        self.trailship("ship", path)
        call("POST", f"{self.url}/{INDICES}/_refresh")

    def documents(self, indices: str = INDICES) -> dict[str, tuple[int, dict]]:
        """Every document: its version and its source, by id."""
        found: dict[str, tuple[int, dict]] = {}
        call("POST", f"{self.url}/{indices}/_refresh")
        query: dict = {"size": 1000, "version": True, "sort": ["_doc"]}
        page = call("POST", f"{self.url}/{indices}/_search?scroll=1m", query)
        while page["hits"]["hits"]:
            for hit in page["hits"]["hits"]:
                if hit["_id"] in found:
                    raise lane.LaneFailed(f"{hit['_id']} stands in two indices")
                found[hit["_id"]] = (hit["_version"], hit["_source"])
            page = call("POST", f"{self.url}/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        return found

    def log_file(self, name: str, events: list[dict]) -> Path:
        """A folder with one log file that holds these events."""
        folder = self.folder / name
        folder.mkdir()
        key = "111122223333_CloudTrail_us-east-1_20240501T1205Z_abcdefgh12345678.json.gz"
        (folder / key).write_bytes(gzip.compress(json.dumps({"Records": events}).encode()))
        return folder

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


def a_second_shipment_is_all_duplicates(bench: Bench) -> None:
    """Nothing is added and nothing overwritten."""
    bench.ship(bench.folder / "files")
    check_documents(bench)


def check_documents(bench: Bench, indices: str = INDICES, events: dict[str, dict] | None = None) -> None:
    """Raises unless the indices hold exactly the events, each written once."""
    documents, events = bench.documents(indices), bench.events if events is None else events
    if documents.keys() != events.keys():
        lost, invented = events.keys() - documents.keys(), documents.keys() - events.keys()
        raise lane.LaneFailed(f"lost {len(lost)} {sorted(lost)[:2]}, invented {len(invented)} {sorted(invented)[:2]}")
    for identity, (version, source) in documents.items():
        if version != 1:
            raise lane.LaneFailed(f"{identity} was overwritten: version {version}")
        if event_in(source) != events[identity]:
            raise lane.LaneFailed(f"{identity} is not as it was issued: {json.dumps(source)[:300]}")
    if bench.dead_letters():
        raise lane.LaneFailed(f"dead-lettered: {str(bench.dead_letters()[0])[:600]}")


def in_safe_shape(bench: Bench, indices: str = INDICES) -> set[str]:
    """The ids of the documents that hold their record as text."""
    return {identity for identity, (_, source) in bench.documents(indices).items() if WHOLE in source}


def event_in(source: dict) -> dict:
    """The event that a document stands for, in the normal or the safe shape."""
    if WHOLE in source:
        return json.loads(source[WHOLE], parse_float=str)
    return {key: value for key, value in source.items() if key not in ADDED}


def event(number: int, **members: object) -> dict:
    """An event of a lane's own, with an id made of the number."""
    identity = f"00000000-aaaa-bbbb-cccc-{number:012}"
    time_and_place = {"eventTime": "2024-05-01T12:00:00Z", "awsRegion": "us-east-1"}
    return {"eventVersion": "1.08", "eventName": "CreatePolicy"} | time_and_place | members | {"eventID": identity}


def by_id(events: list[dict]) -> dict[str, dict]:
    """Events by their ids."""
    return {event["eventID"]: event for event in events}


def expect_safe(bench: Bench, events: list[dict], safe: list[int], indices: str = INDICES) -> None:
    """Raises unless exactly the events at these places are stored in the safe shape."""
    found = in_safe_shape(bench, indices) & by_id(events).keys()
    expected = {events[at]["eventID"] for at in safe}
    if found != expected:
        raise lane.LaneFailed(f"in the safe shape: {sorted(found)}, and not {sorted(expected)}")


def a_string_where_the_mapping_wants_an_object_is_not_lost(bench: Bench) -> None:
    """Stored by the second, safe try; its neighbours are stored as they are."""
    events = [event(1, requestParameters="a text"), event(2, requestParameters={"a": "b"})]
    bench.ship(bench.log_file("odd", events))
    bench.events |= by_id(events)
    check_documents(bench)
    expect_safe(bench, events, [0])


def texts_longer_than_a_term_are_stored(bench: Bench) -> None:
    """With the shipped template: where ignore_above works as they are, in flat_object in the safe shape."""
    long = "x" * 40_000
    events = [
        event(11, requestParameters={"policy": long}),
        event(12, requestParameters={"a" * 33_000: "b"}),
        event(13, userAgent=long),
        event(14, errorMessage=long),
        event(15, userIdentity={"arn": long}),
        event(16, responseElements={"many": [long, {"deep": long}]}),
    ]
    bench.ship(bench.log_file("long", events))
    bench.events |= by_id(events)
    check_documents(bench)
    expect_safe(bench, events, [0, 1, 5])


def mapping_conflicts_without_a_template_are_stored(bench: Bench) -> None:
    """The first event decides what a field is; those that contradict it are stored in the safe shape."""
    events = [
        event(21, responseElements={"role": {"arn": "a"}}, requestParameters={"filter": "x"}),
        event(22, responseElements={"role": "a"}),
        event(23, requestParameters={"filter": {"name": "x"}}),
        event(24, errorMessage={"not": "a text"}),
        event(25, errorMessage="a text"),
    ]
    # Alone first: within one request shards could learn in another order.
    for number, part in enumerate((events[:1], events[4:], events[1:4])):
        bench.trailship("ship", bench.log_file(f"untaught-{number}", part), sink='index = "untaught"')
    check_documents(bench, "untaught", by_id(events))
    expect_safe(bench, events, [1, 2, 3], "untaught")


def a_long_text_under_a_mapping_that_has_no_limit_is_stored(bench: Bench) -> None:
    """A template of the user's own, with keywords without ignore_above: the safe shape leaves such a text out."""
    names = {"userAgent": {"type": "keyword"}, "errorMessage": {"type": "keyword"}}
    template = {"index_patterns": ["own-*"], "template": {"mappings": {"properties": names}}}
    call("PUT", f"{bench.url}/_index_template/own", template)
    events = [event(31, userAgent="x" * 40_000, errorMessage="short"), event(32, userAgent="short")]
    bench.trailship("ship", bench.log_file("own", events), sink='index = "own-%Y"')
    check_documents(bench, "own-*", by_id(events))
    expect_safe(bench, events, [0], "own-*")


def a_data_stream_takes_every_event_once(bench: Bench) -> None:
    """`check --apply` installs its template; a second shipment is all duplicates, since nothing rolled over."""
    stream = 'data_stream = "logs-trail-default"'
    said = bench.trailship("check", sink=stream)
    if "is not there yet" not in said:
        raise lane.LaneFailed(f"`check` did not notice that there is no data stream: {said}")
    bench.trailship("check", "--apply", sink=stream)
    events = [event(40 + number, requestParameters={"n": number}) for number in range(50)]
    folder = bench.log_file("stream", events)
    for _ in range(2):
        bench.trailship("ship", folder, sink=stream)
        check_documents(bench, "logs-trail-default", by_id(events))
    streams = call("GET", f"{bench.url}/_data_stream/logs-trail-default")["data_streams"]
    if len(streams) != 1 or "data stream logs-trail-default is there" not in bench.trailship("check", sink=stream):
        raise lane.LaneFailed(f"no data stream was made: {streams}")


def killed_in_the_middle_and_started_again_it_holds_every_event_once(bench: Bench) -> None:
    """SIGKILL while events are sent; what was answered before is there after it, and nothing is there twice."""
    folder = bench.folder / "many"
    files = lane.sample(bench.binary, folder, files=120, events=250, seed=12)
    records = [json.loads(record, parse_float=str) for file in files for record in file.records]
    events = {record.get("eventID") or record["eventId"]: record for record in records}
    sink = 'index = "killed"\nbatch = { max_events = 100 }\nconcurrency = { min = 1, max = 2 }\nretry = { max = "2s" }'
    command = bench.command("ship", folder, sink=sink)
    template = json.loads(TEMPLATE.read_text()) | {"index_patterns": ["killed"]}
    call("PUT", f"{bench.url}/_index_template/killed", template)
    call("PUT", f"{bench.url}/killed")
    with (bench.folder / "killed.log").open("wb") as log:
        shipping = subprocess.Popen(command, env=lane.environment(), stdout=log, stderr=log)
    try:
        lane.wait_until("a tenth of the events", 120, lambda: stored(bench) > len(events) / 10, every=0.05)
        bench.node.kill()
        before = shipping.poll()
        time.sleep(2)
        bench.node.start()
        if before is not None:
            raise lane.LaneFailed("everything was sent before the server was killed")
        if shipping.wait(240) != 0:
            raise lane.LaneFailed((bench.folder / "killed.log").read_text(errors="replace")[-600:])
    finally:
        shipping.kill()
        shipping.wait()
    check_documents(bench, "killed", events)


def stored(bench: Bench) -> int:
    """Documents of the index that is about to be interrupted, without making them visible."""
    return call("GET", f"{bench.url}/killed/_stats/indexing")["_all"]["primaries"]["indexing"]["index_total"]


CASES: list[Callable[[Bench], None]] = [
    check_installs_the_shipped_template,
    every_event_is_stored_once,
    a_second_shipment_is_all_duplicates,
    a_string_where_the_mapping_wants_an_object_is_not_lost,
    texts_longer_than_a_term_are_stored,
    mapping_conflicts_without_a_template_are_stored,
    a_long_text_under_a_mapping_that_has_no_limit_is_stored,
    a_data_stream_takes_every_event_once,
    killed_in_the_middle_and_started_again_it_holds_every_event_once,
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
    with servers.opensearch(tools, folder) as node:
        bench = Bench(binary, folder, node, collect(binary, folder / "files", more))
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except (lane.LaneFailed, OSError) as error:
                results.append((case.__name__, str(error)))
    return results
