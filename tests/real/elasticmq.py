"""The real binary with ElasticMQ as its queue: shipping, a lapsed lease with an old handle, a dead-letter queue."""

from __future__ import annotations

import collections
import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import servers  # noqa: F401  (puts tests/python on the path)

import lane
import moto_lane

BUCKET = "trail"


class Gate:
    """A Loggly that answers only while it is open, and keeps every line it was sent."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.requests = 0
        self.lines: list[bytes] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gate.requests += 1
                gate.open.wait(90)
                gate.lines.extend(line for line in body.split(b"\n") if line)
                answer = b'{"response" : "ok"}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Lets everything go and stops listening."""
        self.open.set()
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Bench:
    """What each case needs: clients, a bucket with log files, and a folder."""

    binary: Path
    folder: Path
    sqs: object
    endpoints: dict[str, str]
    files: list[lane.LogFile]
    issued: dict[lane.Position, bytes] = field(default_factory=dict)

    def queue(self, name: str, **attributes: str) -> str:
        """A new queue's URL."""
        return self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def announce(self, queue: str, bucket: str = BUCKET) -> None:
        """One S3 notification for each log file."""
        for file in self.files:
            record = {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": moto_lane.REGION,
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": bucket}, "object": {"key": file.key(), "size": len(file.stored)}},
            }
            self.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))

    def counts(self, queue: str) -> tuple[int, int]:
        """Messages visible, and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])

    def is_empty(self, queue: str) -> bool:
        """Whether the queue holds nothing, seen or unseen."""
        return self.counts(queue) == (0, 0)

    def agent(self, name: str, queue: str, sink: str) -> lane.Agent:
        """An agent of its own, with one source and one sink."""
        folder, port = self.folder / name, lane.free_port()
        config = f"""
[agent]
listen = "127.0.0.1:{port}"
state_dir = "{folder}/state"
shutdown_grace = "20s"

[aws]
region = "{moto_lane.REGION}"
endpoints = {{ s3 = "{self.endpoints['s3']}", sqs = "{self.endpoints['sqs']}" }}

[sources.trail]
type = "sqs"
queue_url = "{queue}"
buckets = [{{ name = "{BUCKET}" }}]
visibility_timeout = "30s"

[sinks.out]
{sink}

[dead_letter]
type = "file"
path = "{folder}/dead-letters.ndjson"
durable = true
"""
        return lane.Agent(self.binary, folder, config, port)

    def file_sink(self, name: str) -> str:
        """The configuration of a file sink in a case's folder."""
        return f'type = "file"\npath = "{self.folder}/{name}/out/events.ndjson"'


def everything_is_shipped_and_the_queue_is_empty(bench: Bench) -> None:
    """The ordinary way."""
    queue = bench.queue("plain")
    bench.announce(queue)
    with lane.running(bench.agent("plain", queue, bench.file_sink("plain"))) as agent:
        lane.wait_until("an empty queue", 60, lambda: bench.is_empty(queue))
        agent.stop()
    lane.judge(bench.issued, lane.lines_in(bench.folder / "plain" / "out")).check()


def a_lapsed_lease_costs_duplicates_and_no_event(bench: Bench) -> None:
    """The agent is halted beyond its visibility timeout: its handles grow old, and deleting with them must not count."""
    queue, gate = bench.queue("lapsed"), Gate()
    bench.announce(queue)
    sink = f'type = "loggly"\nendpoint = "{gate.url}"\ntoken = "a-token-for-tests"'
    try:
        with lane.running(bench.agent("lapsed", queue, sink)) as agent:
            lane.wait_until("the agent to hold every message", 30, lambda: bench.counts(queue) == (0, len(bench.files)))
            lane.wait_until("a request", 30, lambda: gate.requests > 0)
            agent.send(signal.SIGSTOP)
            handles = receive_all(bench, queue, len(bench.files))
            gate.open.set()
            agent.send(signal.SIGCONT)
            lane.wait_until("every event accepted", 60, lambda: len(gate.lines) >= len(bench.issued))
            # Long enough for the deletions with old handles to have been tried.
            time.sleep(3)
            if bench.counts(queue) != (0, len(bench.files)):
                raise lane.LaneFailed(f"an old handle deleted a message: {bench.counts(queue)} left")
            for handle in handles:
                bench.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
            lane.wait_until("an empty queue", 90, lambda: bench.is_empty(queue))
            agent.stop()
    finally:
        gate.close()
    check_at_least_once(bench.issued, gate.lines, at_most=2)


def receive_all(bench: Bench, queue: str, count: int) -> list[str]:
    """The newest handles of `count` messages, once the agent's have lapsed."""
    handles: dict[str, str] = {}

    def received_all() -> bool:
        answer = bench.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=120, WaitTimeSeconds=1
        )
        handles.update({message["MessageId"]: message["ReceiptHandle"] for message in answer.get("Messages", [])})
        return len(handles) == count

    lane.wait_until("the agent's leases to lapse", 55, received_all)
    return list(handles.values())


def check_at_least_once(issued: dict[lane.Position, bytes], lines: list[bytes], at_most: int) -> None:
    """Raises unless each record arrived, unchanged, between once and `at_most` times."""
    seen: collections.Counter[lane.Position] = collections.Counter()
    for line in lines:
        event = json.loads(line, parse_float=str)
        additions = event.pop("trailship")
        event.pop("timestamp", None)
        position = (additions["bucket"], additions["key"], additions["record"])
        if position not in issued or event != json.loads(issued[position], parse_float=str):
            raise lane.LaneFailed(f"not as issued: {position}")
        seen[position] += 1
    lost = set(issued) - set(seen)
    if lost:
        raise lane.LaneFailed(f"{len(lost)} lost, such as {min(lost)}")
    position, count = seen.most_common(1)[0]
    if count > at_most:
        raise lane.LaneFailed(f"{position} arrived {count} times")


def what_nobody_can_read_goes_to_the_dead_letter_queue(bench: Bench) -> None:
    """An unknown shape and a bucket that is not allowed are left to the queue's policy; the others are shipped."""
    dead = bench.queue("poison-dead")
    arn = bench.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = bench.queue("poison", RedrivePolicy=policy)
    bench.sqs.send_message(QueueUrl=queue, MessageBody='{"hello": "trailship"}')
    stranger = {"s3Bucket": "not-allowed", "s3ObjectKey": [bench.files[0].key()]}
    bench.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(stranger))
    bench.announce(queue)
    with lane.running(bench.agent("poison", queue, bench.file_sink("poison"))) as agent:
        lane.wait_until("both in the dead-letter queue", 150, lambda: bench.counts(dead)[0] == 2)
        lane.wait_until("an empty queue", 30, lambda: bench.is_empty(queue))
        agent.stop()
    lane.judge(bench.issued, lane.lines_in(bench.folder / "poison" / "out")).check()


CASES: list[Callable[[Bench], None]] = [
    everything_is_shipped_and_the_queue_is_empty,
    a_lapsed_lease_costs_duplicates_and_no_event,
    what_nobody_can_read_goes_to_the_dead_letter_queue,
]


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    results = []
    with servers.elasticmq(tools, folder) as queue_url, moto_lane.moto() as store_url:
        aws = moto_lane.Aws(store_url)
        aws.s3.create_bucket(Bucket=BUCKET)
        files = lane.sample(binary, folder / "samples", files=6, events=50, seed=7)
        issued = {}
        for file in files:
            aws.s3.put_object(Bucket=BUCKET, Key=file.key(), Body=file.stored)
            issued |= {(BUCKET, file.key(), at): record for at, record in enumerate(file.records)}
        endpoints = {"s3": store_url, "sqs": queue_url}
        bench = Bench(binary, folder, moto_lane.Aws(queue_url).sqs, endpoints, files, issued)
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except lane.LaneFailed as error:
                results.append((case.__name__, str(error)))
    return results
