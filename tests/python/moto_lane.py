"""Drives the real binary against moto: four ways from S3 to a queue, and the file sink judged byte by byte."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
from botocore.config import Config

import lane

REGION = "us-east-1"
FILES, EVENTS = 12, 60
DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """A moto server on a free port; its address."""
    port = lane.free_port()
    command = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        lane.wait_until("moto", 60, lambda: lane.answers(f"{url}/moto-api/"))
        yield url
    finally:
        server.terminate()
        server.wait(10)


class Aws:
    """Clients of one endpoint, and what the ways to a queue have in common."""

    def __init__(self, url: str) -> None:
        options = {
            "endpoint_url": url,
            "region_name": REGION,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "config": Config(proxies={}, s3={"addressing_style": "path"}),
        }
        self.s3 = boto3.client("s3", **options)
        self.sqs = boto3.client("sqs", **options)
        self.sns = boto3.client("sns", **options)
        self.dynamodb = boto3.client("dynamodb", **options)

    def queue(self, name: str) -> tuple[str, str]:
        """A new queue's URL and ARN."""
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, answer["Attributes"]["QueueArn"]

    def topic(self, name: str, queue_arn: str, raw: bool) -> str:
        """A new topic that a queue is subscribed to."""
        arn = self.sns.create_topic(Name=name)["TopicArn"]
        self.sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": str(raw).lower()}
        )
        return arn

    def notify(self, bucket: str, kind: str, arn: str) -> None:
        """Has a bucket tell a queue or a topic of each new `.json.gz`."""
        rule = {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".json.gz"}]}}
        target = {f"{kind}Arn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": rule}
        self.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={f"{kind}Configurations": [target]}
        )

    def waiting(self, url: str) -> int:
        """Messages of a queue: visible, in flight, delayed."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())


# The ways to a queue: each wires bucket and queue, and returns what to call once the log files are in the bucket.

Announce = Callable[[list[str]], None]


def nothing(_keys: list[str]) -> None:
    """The bucket has told already."""


def direct(aws: Aws, bucket: str, queue_arn: str) -> Announce:
    """S3 → SQS; S3's test event comes first."""
    aws.notify(bucket, "Queue", queue_arn)
    return nothing


def through_sns(aws: Aws, bucket: str, queue_arn: str) -> Announce:
    """S3 → SNS → SQS, in SNS's envelope."""
    aws.notify(bucket, "Topic", aws.topic(bucket, queue_arn, raw=False))
    return nothing


def through_sns_raw(aws: Aws, bucket: str, queue_arn: str) -> Announce:
    """S3 → SNS → SQS, raw delivery."""
    aws.notify(bucket, "Topic", aws.topic(bucket, queue_arn, raw=True))
    return nothing


def from_cloudtrail(aws: Aws, bucket: str, queue_arn: str) -> Announce:
    """CloudTrail → SNS → SQS: its validation message, then several keys a message, as they stand."""
    topic = aws.topic(bucket, queue_arn, raw=False)
    aws.sns.publish(TopicArn=topic, Message="CloudTrail validation message.")

    def announce(keys: list[str]) -> None:
        for at in range(0, len(keys), 5):
            message = {"s3Bucket": bucket, "s3ObjectKey": keys[at : at + 5]}
            aws.sns.publish(TopicArn=topic, Message=json.dumps(message))

    return announce


WAYS = {"s3": direct, "sns": through_sns, "sns-raw": through_sns_raw, "cloudtrail": from_cloudtrail}


def config(folder: Path, port: int, url: str, queues: dict[str, str]) -> str:
    """One agent, one source a way, one file sink."""
    sources = "".join(
        f"""
[sources.{name}]
type = "sqs"
queue_url = "{queue}"
buckets = [{{ name = "trail-{name}" }}]
"""
        for name, queue in queues.items()
    )
    return f"""
[agent]
listen = "127.0.0.1:{port}"
state_dir = "{folder}/state"
shutdown_grace = "20s"

[aws]
region = "{REGION}"
endpoints = {{ s3 = "{url}", sqs = "{url}" }}
{sources}
[sinks.out]
type = "file"
path = "{folder}/out/events.ndjson"

[dead_letter]
type = "file"
path = "{folder}/dead-letters.ndjson"
durable = true
"""


def fill(aws: Aws, files: dict[str, list[lane.LogFile]]) -> tuple[dict[str, str], dict[lane.Position, bytes]]:
    """Makes the queues and buckets, puts the log files; the queues' URLs, and what was issued."""
    queues, issued = {}, {}
    for name, way in WAYS.items():
        bucket = f"trail-{name}"
        aws.s3.create_bucket(Bucket=bucket)
        queues[name], arn = aws.queue(bucket)
        announce = way(aws, bucket, arn)
        keys = []
        for number, file in enumerate(files[name]):
            # A prefix is free text: what is encoded by one way and not by another has to come out the same.
            key = file.key("" if number % 2 else "org trail+logs/ü/")
            aws.s3.put_object(Bucket=bucket, Key=key, Body=file.stored)
            issued |= {(bucket, key, at): record for at, record in enumerate(file.records)}
            keys.append(key)
        announce(keys)
    return queues, issued


def check_metric_names(metrics: lane.Metrics) -> None:
    """Every metric that the documentation names is on the page, and every one on the page is documented."""
    documented = set(re.findall(r"^\| `(trailship_\w+)`", DOCS.read_text(), re.MULTILINE))
    shown = {name for name in metrics.names() if name.startswith("trailship_")}
    if documented != shown:
        missing, extra = sorted(documented - shown), sorted(shown - documented)
        raise lane.LaneFailed(f"docs/metrics.md and /metrics differ: not shown {missing}, not documented {extra}")


def check_metrics_with(promtool: Path | None, metrics: lane.Metrics) -> None:
    """Prometheus' own lint of names and units; nothing where there is no promtool."""
    if promtool is None or not promtool.exists() or promtool.stat().st_size == 0:
        return
    found = subprocess.run([promtool, "check", "metrics"], input=metrics.text.encode(), capture_output=True, timeout=30)
    if found.returncode != 0:
        raise lane.LaneFailed(f"promtool check metrics: {found.stderr.decode().strip()}")


def ship(binary: Path, folder: Path, promtool: Path | None) -> str:
    """The whole lane; what it moved, for a person."""
    files = {
        name: lane.sample(binary, folder / "samples" / name, FILES, EVENTS, seed)
        for seed, name in enumerate(WAYS, start=1)
    }
    with moto() as url:
        aws = Aws(url)
        queues, issued = fill(aws, files)
        port = lane.free_port()
        agent = lane.Agent(binary, folder, config(folder, port, url, queues), port)
        with lane.running(agent):
            for name, queue in queues.items():
                lane.wait_until(f"queue {name} to be empty", 120, lambda queue=queue: aws.waiting(queue) == 0)
            status, body = lane.fetch(f"http://127.0.0.1:{port}/readyz")
            if status != 200:
                raise lane.LaneFailed(f"/readyz answered {status}: {body.decode('utf-8', 'replace')}")
            metrics = agent.metrics()
            agent.stop()
        for name, queue in queues.items():
            if aws.waiting(queue) != 0:
                raise lane.LaneFailed(f"queue {name} holds messages after the agent's end")
    findings = lane.judge(issued, lane.lines_in(folder / "out"))
    findings.check()
    metrics.check_conservation("out")
    delivered = metrics.total("trailship_sink_events_total", sink="out", outcome="delivered")
    if delivered != len(issued):
        raise lane.LaneFailed(f"{len(issued)} events issued, the metric says {delivered:.0f} delivered")
    check_metric_names(metrics)
    check_metrics_with(promtool, metrics)
    return f"{len(issued)} events of {FILES * len(WAYS)} log files, {len(WAYS)} ways ({', '.join(WAYS)})"


def main() -> int:
    """Runs the lane; 0 if all holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--promtool", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trailship-moto-") as folder:
        try:
            print("moto lane:", ship(options.binary.resolve(), Path(folder), options.promtool))
        except (lane.LaneFailed, subprocess.SubprocessError) as error:
            print(f"moto lane: {error}", file=sys.stderr)
            print(lane.closing_line("moto", 0, 1))
            return 1
    print(lane.closing_line("moto", len(WAYS), 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
