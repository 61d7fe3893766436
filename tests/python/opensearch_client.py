"""OpenSearch's own Python client and its bulk helper against the stand-in: what they accept, a sink may rely on."""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from collections.abc import Callable

from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import NotFoundError, TransportError

import lane
import stand_ins

INDEX = "cloudtrail-2024.05.01"


class StandIn:
    """The stand-in for Elasticsearch, in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = OpenSearch([url], max_retries=2, retry_on_timeout=False)

    def behave(self, failure: object = "none", requests: int | None = None) -> None:
        """What goes wrong from now on, and for how many requests."""
        mode = json.dumps({"failure": failure, "requests": requests}).encode()
        request = urllib.request.Request(f"{self.url}/_testkit/mode", mode, method="PUT")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=10).close()

    def bulk(self, actions: list[dict], **options: object) -> list[tuple[int, str | None]]:
        """Each item's status and the type of its error, in the order of the actions."""
        results = []
        for _, item in helpers.streaming_bulk(
            self.client, actions, raise_on_error=False, raise_on_exception=False, **options
        ):
            (answer,) = item.values()
            error = answer.get("error")
            results.append((answer["status"], error["type"] if isinstance(error, dict) else error))
        return results


def creation(number: int, index: str = INDEX, **source: object) -> dict:
    """One `create` for the helper."""
    source = {"eventName": "GetObject", "eventTime": "2024-05-01T12:00:00Z"} | source
    return {"_op_type": "create", "_index": index, "_id": f"{index}-{number}", "_source": source}


def expect(found: object, expected: object) -> None:
    """Raises where they differ."""
    if found != expected:
        raise lane.LaneFailed(f"{found}, and not {expected}")


def documents_are_created_once(stand_in: StandIn) -> None:
    """The second time each is a conflict, and stays as it was."""
    actions = [creation(number) for number in range(20)]
    expect(stand_in.bulk(actions), [(201, None)] * 20)
    again = [creation(number, eventName="Changed") for number in range(21)]
    expect(stand_in.bulk(again, chunk_size=7), [(409, "version_conflict_engine_exception")] * 20 + [(201, None)])
    document = stand_in.client.get(index=INDEX, id=f"{INDEX}-3")
    expect(document["_source"]["eventName"], "GetObject")
    expect(stand_in.client.count(index="cloudtrail-*")["count"], 21)


def a_mapping_error_refuses_its_item_alone(stand_in: StandIn) -> None:
    """Its neighbours are stored."""
    actions = [creation(30), creation(31, requestParameters="a text"), creation(32)]
    expect(stand_in.bulk(actions), [(201, None), (400, "document_parsing_exception"), (201, None)])
    with contextlib.suppress(NotFoundError):
        stand_in.client.get(index=INDEX, id=f"{INDEX}-31")
        raise lane.LaneFailed("what was refused is stored")


def an_item_that_is_throttled_is_sent_again_alone(stand_in: StandIn) -> None:
    """The helper repeats items that were answered 429, and only those."""
    stand_in.behave({"items_throttled": 1.0}, requests=1)
    actions = [creation(number) for number in range(40, 45)]
    expect(stand_in.bulk(actions, max_retries=0), [(429, "es_rejected_execution_exception")] * 5)
    stand_in.behave({"items_throttled": 0.5}, requests=3)
    expect(stand_in.bulk(actions, max_retries=5, initial_backoff=0.01), [(201, None)] * 5)


def a_request_that_is_refused_as_a_whole_stores_nothing(stand_in: StandIn) -> None:
    """The client raises what it takes for the destination's own error."""
    for status in (401, 413, 429, 503):
        stand_in.behave({"status": status})
        try:
            helpers.bulk(stand_in.client, [creation(50)])
            raise lane.LaneFailed(f"{status} was taken for success")
        except TransportError as error:
            expect(error.status_code, status)
    stand_in.behave()
    expect(stand_in.client.exists(index=INDEX, id=f"{INDEX}-50"), False)


def a_data_stream_takes_creations_with_a_time(stand_in: StandIn) -> None:
    """It is made by its template with the first document."""
    template = {"index_patterns": ["logs-trail-*"], "data_stream": {}, "template": {"mappings": {"dynamic": False}}}
    stand_in.client.indices.put_index_template(name="streams", body=template)
    name = "logs-trail-default"
    timed = creation(1, name) | {"_source": {"@timestamp": "2024-05-01T12:00:00Z"}}
    replacing = timed | {"_op_type": "index"}
    expect(
        stand_in.bulk([timed, creation(2, name), replacing]),
        [(201, None), (400, "document_parsing_exception"), (400, "illegal_argument_exception")],
    )
    expect(stand_in.client.indices.get_data_stream(name=name)["data_streams"][0]["name"], name)


CASES: list[Callable[[StandIn], None]] = [
    documents_are_created_once,
    a_mapping_error_refuses_its_item_alone,
    an_item_that_is_throttled_is_sent_again_alone,
    a_request_that_is_refused_as_a_whole_stores_nothing,
    a_data_stream_takes_creations_with_a_time,
]


def drive(addresses: dict) -> StandIn:
    """The one of the stand-ins that this client speaks to."""
    return StandIn(addresses["elasticsearch"]["url"])


if __name__ == "__main__":
    sys.exit(stand_ins.run("opensearch-py", __doc__, drive, CASES))
