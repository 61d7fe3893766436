"""pylogbeat, a client of the lumberjack protocol by another hand, against the stand-in for Logstash's beats input."""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import sys
import urllib.request
from collections.abc import Callable

from pylogbeat import ConnectionException, PyLogBeatClient

import lane
import stand_ins


class StandIn:
    """The stand-in, in a process of its own."""

    def __init__(self, page: str, endpoint: str) -> None:
        self.page = page
        host, port = endpoint.removeprefix("tcp://").split(":")
        self.address = (host, int(port))
        self.before = 0

    def client(self) -> PyLogBeatClient:
        """A new client, not connected yet."""
        return PyLogBeatClient(*self.address, timeout=5, use_logging=True)

    def behave(self, failure: object = "none", requests: int | None = None, delay_ms: int = 0) -> None:
        """What goes wrong from now on, and for how many windows."""
        mode = json.dumps({"failure": failure, "requests": requests, "delay_ms": delay_ms}).encode()
        self.ask("mode", mode)

    def ask(self, what: str, body: bytes | None = None) -> bytes:
        """One request to its page."""
        method = "GET" if body is None else "PUT"
        request = urllib.request.Request(f"{self.page}/_testkit/{what}", body, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return answer.read()

    def stored(self) -> list[str]:
        """The hashes of what was stored since it was asked last."""
        lines = [json.loads(line) for line in self.ask("evidence").splitlines()]
        hashes = [line["hash"] for line in lines if line["what"] == "event"]
        new, self.before = hashes[self.before :], len(hashes)
        return new


def documents(count: int, first: int = 0) -> list[dict]:
    """Events as a client sends them."""
    return [{"eventID": f"e-{number}", "eventName": "ÄÖ \u2028 \U0001f600"} for number in range(first, first + count)]


def hashes(events: list[dict]) -> list[str]:
    """As the evidence has them: the first half of the SHA-256 of the bytes that the client sends."""
    return [hashlib.sha256(json.dumps(event).encode()).hexdigest()[:32] for event in events]


def expect(found: object, expected: object) -> None:
    """Raises where they differ."""
    if found != expected:
        raise lane.LaneFailed(f"{found}, and not {expected}")


def windows_are_stored_and_acknowledged(stand_in: StandIn) -> None:
    """Several over one connection, whose numbers go on; the client waits for each one's last number."""
    with stand_in.client() as client:
        for count, first in ((1, 0), (50, 1), (2000, 51)):
            events = documents(count, first)
            client.send(events)
            expect(stand_in.stored(), hashes(events))


def signs_of_life_are_no_end(stand_in: StandIn) -> None:
    """The stand-in works for longer than its keep-alive; the client waits on."""
    stand_in.behave(delay_ms=6_000)
    with PyLogBeatClient(*stand_in.address, timeout=5.8, use_logging=True) as client:
        client.send(documents(3))
    expect(stand_in.stored(), hashes(documents(3)))


def a_window_that_is_not_acknowledged_is_an_error_to_the_client(stand_in: StandIn) -> None:
    """However it fails; what was stored all the same is what the stand-in says."""
    for failure, kept in (({"status": 503}, 0), ("hangup", 4), ("half_answer", 4), ("partly_stored", 2), ("reset", 0)):
        stand_in.behave(failure)
        try:
            with stand_in.client() as client:
                client.send(documents(4))
            raise lane.LaneFailed(f"{failure} was taken for success")
        except (ConnectionException, OSError, struct.error):
            pass
        expect(stand_in.stored(), hashes(documents(4))[:kept])
    stand_in.behave()
    with stand_in.client() as client:
        client.send(documents(4))
    expect(stand_in.stored(), hashes(documents(4)))


CASES: list[Callable[[StandIn], None]] = [
    windows_are_stored_and_acknowledged,
    signs_of_life_are_no_end,
    a_window_that_is_not_acknowledged_is_an_error_to_the_client,
]


def drive(addresses: dict) -> StandIn:
    """The one of the stand-ins that this client speaks to."""
    return StandIn(addresses["logstash"]["url"], addresses["logstash"]["endpoint"])


if __name__ == "__main__":
    # It warns of each failure that is made to happen.
    logging.getLogger("pylogbeat").setLevel(logging.CRITICAL)
    sys.exit(stand_ins.run("pylogbeat", __doc__, drive, CASES))
