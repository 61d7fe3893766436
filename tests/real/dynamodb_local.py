"""The real binary with DynamoDB's own engine as its ledger: two agents, another version, a wrong table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import servers  # noqa: F401  (puts tests/python on the path)

import lane
import moto_lane

BUCKET = "trail"
TABLE = "trailship-ledger"


@dataclass
class Bench:
    """What each case needs: a store with log files, a queue, the table's client, and a folder."""

    binary: Path
    folder: Path
    aws: moto_lane.Aws
    dynamodb: object
    endpoints: dict[str, str]
    files: list[lane.LogFile]
    issued: dict[lane.Position, bytes]

    def make_table(self, name: str, key: str = "id") -> None:
        """A table as the CloudFormation template makes it, but for its key's name."""
        self.dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        )
        expiry = {"AttributeName": "expires_at", "Enabled": True}
        self.dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)

    def announce(self, queue: str) -> None:
        """CloudTrail's own message of all log files, which tells no versions."""
        message = {"s3Bucket": BUCKET, "s3ObjectKey": [file.key() for file in self.files]}
        self.aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(message))

    def is_empty(self, queue: str) -> bool:
        """Whether the queue holds nothing, seen or unseen."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return all(int(answer[name]) == 0 for name in names)

    def agent(self, name: str, queue: str, out: Path, table: str = TABLE) -> lane.Agent:
        """An agent of its own that writes to `out`."""
        folder, port = self.folder / name, lane.free_port()
        ends = ", ".join(f'{service} = "{url}"' for service, url in self.endpoints.items())
        config = f"""
[agent]
listen = "127.0.0.1:{port}"
state_dir = "{folder}/state"

[aws]
region = "{moto_lane.REGION}"
endpoints = {{ {ends} }}

[sources.trail]
type = "sqs"
queue_url = "{queue}"
buckets = [{{ name = "{BUCKET}" }}]

[sinks.out]
type = "file"
path = "{out}/events.ndjson"

[ledger]
type = "dynamodb"
table = "{table}"

[dead_letter]
type = "file"
path = "{folder}/dead-letters.ndjson"
durable = true
"""
        return lane.Agent(self.binary, folder, config, port)

    def ship(self, name: str, out: Path, table: str = TABLE) -> None:
        """Announces everything on a new queue, and lets an agent of its own do what there is to do.

        moto may hand a message to a long poll whose agent is gone, so no queue serves two agents.
        """
        queue = self.aws.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.announce(queue)
        with lane.running(self.agent(name, queue, out, table)) as agent:
            lane.wait_until("an empty queue", 60, lambda: self.is_empty(queue))
            agent.stop()

    def items(self, table: str = TABLE) -> list[dict]:
        """Everything in the table."""
        return self.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]


def another_agent_sends_nothing_again(bench: Bench) -> None:
    """The first agent's deliveries are known to the second."""
    out = bench.folder / "two" / "out"
    bench.ship("two-1", out)
    items = bench.items()
    names = sorted(f"s3://{BUCKET}/{file.key()}" for file in bench.files)
    if sorted(item["id"]["S"] for item in items) != names:
        raise lane.LaneFailed(f"not what was delivered: {items}")
    left = int(items[0]["expires_at"]["N"]) - time.time()
    if not 29 * 86400 < left <= 30 * 86400:
        raise lane.LaneFailed(f"the item expires in {left} s")
    bench.ship("two-2", out)
    lane.judge(bench.issued, lane.lines_in(out)).check()


def another_version_takes_the_place_of_the_first(bench: Bench) -> None:
    """A replaced object is delivered, and its item is replaced by way of a condition that fails first."""
    out = bench.folder / "version" / "out"
    before = {item["id"]["S"]: item["version"]["S"] for item in bench.items()}
    for file in bench.files:
        # The same events, stored as other bytes.
        bench.aws.s3.put_object(Bucket=BUCKET, Key=file.key(), Body=b'{"Records":[' + b",".join(file.records) + b"]}")
    bench.ship("version", out)
    after = {item["id"]["S"]: item["version"]["S"] for item in bench.items()}
    if len(after) != len(before) or any(after[name] == version for name, version in before.items()):
        raise lane.LaneFailed(f"not every item was replaced: {before} {after}")
    bench.ship("version-again", out)
    lane.judge(bench.issued, lane.lines_in(out)).check()


def a_table_with_another_key_is_a_warning_and_no_loss(bench: Bench) -> None:
    """What DynamoDB refuses is delivered all the same."""
    bench.make_table("wrong", key="name")
    out = bench.folder / "wrong" / "out"
    bench.ship("wrong", out, "wrong")
    lane.judge(bench.issued, lane.lines_in(out)).check()
    if bench.items("wrong"):
        raise lane.LaneFailed("an item was written")


CASES: list[Callable[[Bench], None]] = [
    another_agent_sends_nothing_again,
    another_version_takes_the_place_of_the_first,
    a_table_with_another_key_is_a_warning_and_no_loss,
]


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    results = []
    with servers.dynamodb_local(tools, folder) as table_url, moto_lane.moto() as url:
        aws = moto_lane.Aws(url)
        aws.s3.create_bucket(Bucket=BUCKET)
        files = lane.sample(binary, folder / "samples", files=6, events=50, seed=11)
        issued = {}
        for file in files:
            aws.s3.put_object(Bucket=BUCKET, Key=file.key(), Body=file.stored)
            issued |= {(BUCKET, file.key(), at): record for at, record in enumerate(file.records)}
        endpoints = {"s3": url, "sqs": url, "dynamodb": table_url}
        bench = Bench(binary, folder, aws, moto_lane.Aws(table_url).dynamodb, endpoints, files, issued)
        bench.make_table(TABLE)
        for case in CASES:
            try:
                case(bench)
                results.append((case.__name__, None))
            except lane.LaneFailed as error:
                results.append((case.__name__, str(error)))
    return results
