"""PySpark and pyarrow read what the sink `parquet` wrote, and the shipped Spark job answers its questions on it."""

from __future__ import annotations

import collections
import gzip
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import servers

import lane

PACKAGES = ["pyspark==4.3.0", "pyarrow==26.0.1"]
HERE = Path(__file__).resolve().parent
JOB = HERE.parents[1] / "deploy" / "spark" / "investigate.py"
ACCOUNTS = ["012345678901", *(f"{number}{number}1122223333" for number in range(1, 10))]
"""Ten of them, one with a leading zero."""
DAYS = [f"2024-05-0{number}" for number in range(1, 6)]
REGIONS = ["eu-west-1", "us-east-1"]
EVENTS = 40
"""Of each account and day; they lie in two log files."""
MALLORY = "arn:aws:iam::012345678901:user/mallory"


def environment(tools: Path) -> Path:
    """The Python of an environment that has PySpark and pyarrow; raises `CannotBeHad` where it cannot be made."""
    servers.java()
    home = tools / "parquet-readers"
    python = home / "bin" / "python"
    ready = home / "-".join(PACKAGES)
    if not ready.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=120)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        run = subprocess.run(pip, capture_output=True, text=True, timeout=900)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no word of why"])[-1]
            raise servers.CannotBeHad(f"PyPI: {', '.join(PACKAGES)}: {last[:300]}")
        ready.touch()
    return python


@dataclass
class Bench:
    """What each case needs."""

    binary: Path
    python: Path
    folder: Path
    events: dict[str, dict] = field(default_factory=dict)
    """Each event by its id."""
    texts: dict[str, str] = field(default_factory=dict)
    places: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Account, region and day of each."""

    @property
    def lake(self) -> Path:
        """Where the sink writes."""
        return self.folder / "lake"

    def run(self, command: list[str | Path], seconds: float = 600) -> str:
        """Runs a command; its standard output. Raises unless it ends with 0."""
        more = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(self.python), "JAVA_HOME": servers.java_home()}
        env = lane.environment() | more
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, cwd=self.folder)
        if run.returncode != 0:
            problem = (run.stdout + run.stderr)[-800:]
            raise lane.LaneFailed(f"{Path(command[0]).name} ended with exit code {run.returncode}: {problem}")
        return run.stdout

    @property
    def merged(self) -> Path:
        """Where the sink writes objects of many log files."""
        return self.folder / "merged"

    def ship(self) -> None:
        """`trailship ship` of all log files into the lake."""
        self._ship(f'path = "{self.lake}"')

    def ship_merged(self) -> None:
        """The same, with objects of many log files."""
        self._ship(f'path = "{self.merged}"\nmerge = {{ max_age = "1s" }}')

    def _ship(self, settings: str) -> None:
        config = self.folder / "trailship.toml"
        config.write_text(f'[sinks.lake]\ntype = "parquet"\n{settings}\n')
        self.run([self.binary, "ship", self.folder / "files", "--config", config])

    def claim_one(self) -> None:
        """Claims what one log file has, for a writer that has died: its object will hold no rows."""
        part = sorted(self.lake.rglob("*.parquet"))[0].relative_to(self.lake)
        claim = self.merged / "_trailship" / "members" / f"{part.stem}.0"
        claim.parent.mkdir(parents=True)
        claim.write_text(json.dumps({"v": 1, "object": str(part.with_name("merged-dead.parquet"))}))

    def read(self) -> None:
        """Everything that one process of the readers is asked, in one go; the answers lie in the folder."""
        data, packed = ["--data", str(self.lake)], str(self.folder / "packed")
        touched = ["touched", "--principal", MALLORY, "--account", ACCOUNTS[0], *data]
        steps = [
            ["pyarrow", str(self.lake), str(self.folder / "pyarrow.jsonl")],
            ["spark", str(self.lake), str(self.folder / "spark.jsonl")],
            ["job", *touched, "--output", str(self.folder / "touched")],
            ["job", "on-behalf", *data, "--output", str(self.folder / "on-behalf")],
            # The second run replaces what the first one wrote.
            ["job", "compact", *data, "--output", packed],
            ["job", "compact", *data, "--output", packed],
            ["spark", packed, str(self.folder / "packed.jsonl")],
            ["pyarrow", str(self.merged), str(self.folder / "merged-pyarrow.jsonl")],
            ["spark", str(self.merged), str(self.folder / "merged-spark.jsonl")],
        ]
        self.run([self.python, HERE / "parquet_readers.py", json.dumps(steps)])

    def rows(self, reader: str) -> tuple[dict[str, str], list[dict]]:
        """The columns' types and all rows, as a reader saw them."""
        head, *rows = (self.folder / f"{reader}.jsonl").read_text().splitlines()
        return json.loads(head), [json.loads(row) for row in rows]

    def answer(self, name: str) -> list[dict]:
        """What the job answered."""
        parts = (self.folder / name).glob("part-*")
        return [json.loads(line) for part in parts for line in part.read_text().splitlines()]

    def objects(self) -> dict[str, str]:
        """Every object below the lake, by its hash."""
        found = sorted(path for path in self.lake.rglob("*") if path.is_file())
        return {str(path.relative_to(self.lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def write_files(bench: Bench) -> None:
    """A log file for each account and day: sampled events, and some that the questions are about."""
    sampled = lane.sample(bench.binary, bench.folder / "sampled", files=60, events=80, seed=13)
    records = (json.loads(record) for record in itertools.cycle([record for file in sampled for record in file.records]))
    number = 0
    for account in ACCOUNTS:
        for at, day in enumerate(DAYS):
            region = REGIONS[at % 2]
            chosen = []
            for event in (next(records) for _ in range(EVENTS)):
                chosen.append(event)
                if account == ACCOUNTS[0] and len(chosen) == 5:
                    chosen += [failed_login(), deed(account)]
            for event in chosen:
                number += 1
                event["eventID"] = f"00000000-0000-0000-0000-{number:012}"
                event["eventTime"] = f"{day}T{number % 24:02}:00:00Z"
                event["awsRegion"], event["recipientAccountId"] = region, account
                text = json.dumps(event, separators=(",", ":"))
                bench.events[event["eventID"]], bench.texts[event["eventID"]] = event, text
                bench.places[event["eventID"]] = (account, region, day)
            texts = [bench.texts[event["eventID"]] for event in chosen]
            write_file(bench, account, region, day, "2300", texts[: EVENTS // 2])
            write_file(bench, account, region, day, "2305", texts[EVENTS // 2 :])


def write_file(bench: Bench, account: str, region: str, day: str, minute: str, texts: list[str]) -> None:
    """One log file under the key that CloudTrail would give it."""
    compact = day.replace("-", "")
    name = f"{account}_CloudTrail_{region}_{compact}T{minute}Z_abcdefgh12345678.json.gz"
    folder = bench.folder / "files" / "AWSLogs" / account / "CloudTrail" / region / day.replace("-", "/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(gzip.compress(f'{{"Records":[{",".join(texts)}]}}'.encode()))


def failed_login() -> dict:
    """Somebody who does not know the password."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "accountId": "012345678901", "userName": "mallory"},
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "sourceIPAddress": "192.0.2.66",
        "errorMessage": "Failed authentication",
        "requestParameters": None,
        "responseElements": {"ConsoleLogin": "Failure"},
        "additionalEventData": {"MFAUsed": "No"},
        "eventType": "AwsConsoleSignIn",
    }


def deed(account: str) -> dict:
    """What she did when she knew it."""
    arn = "arn:aws:s3:::secrets"
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "arn": MALLORY, "accountId": account, "userName": "mallory"},
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "sourceIPAddress": "192.0.2.66",
        "resources": [{"type": "AWS::S3::Bucket", "ARN": arn}, {"type": "AWS::S3::Object", "ARN": f"{arn}/a"}],
        "eventType": "AwsApiCall",
    }


def same(what: str, found: object, expected: object) -> None:
    """Raises unless both are the same."""
    if found != expected:
        raise lane.LaneFailed(f"{what}: {str(found)[:300]} instead of {str(expected)[:300]}")


def check_rows(bench: Bench, rows: list[dict]) -> None:
    """Raises unless there is exactly one row for each event, and it holds what the event holds."""
    same("rows", len(rows), len(bench.events))
    same("ids", {row["eventid"] for row in rows}, set(bench.events))
    for row in rows:
        event = bench.events[row["eventid"]]
        same("record", row["record"], bench.texts[row["eventid"]])
        same("place", (row["account"], row["region"], row["day"]), bench.places[row["eventid"]])
        same("time", row["eventtime_ts"], event["eventTime"])
        for column, key in [("requestparameters", "requestParameters"), ("responseelements", "responseElements")]:
            value = row[column] and json.loads(row[column])
            same(column, value, event.get(key))
        for key in ("eventName", "eventSource", "sourceIPAddress", "userAgent", "recipientAccountId", "errorCode"):
            same(key, row[key.lower()], event.get(key))
        identity, seen = event.get("userIdentity") or {}, row["useridentity"] or {}
        for key in ("type", "arn", "principalId", "userName", "invokedBy"):
            same(f"userIdentity.{key}", seen.get(key.lower()), identity.get(key))
        issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
        context = seen.get("sessioncontext") or {}
        same("sessionIssuer", (context.get("sessionissuer") or {}).get("arn"), issuer.get("arn"))
        resources = [resource.get("ARN") or resource.get("arn") for resource in event.get("resources") or []]
        same("resources", [resource["arn"] for resource in row["resources"] or []], resources)


def pyarrow_reads_every_event_with_its_types(bench: Bench) -> None:
    """Each event once, in the place of its account, region and day."""
    types, rows = bench.rows("pyarrow")
    check_rows(bench, rows)
    expected = {"eventtime_ts": "timestamp[us, tz=UTC]", "trailship_record": "int64", "actor_console": "bool"}
    same("types", {column: types[column] for column in expected}, expected)


def spark_reads_every_event_with_its_types(bench: Bench) -> None:
    """The same, with the session of the shipped job: the account with a leading zero keeps it."""
    types, rows = bench.rows("spark")
    check_rows(bench, rows)
    expected = {"account": "string", "day": "string", "eventtime_ts": "timestamp", "trailship_record": "bigint"}
    same("types", {column: types[column] for column in expected}, expected)
    found = collections.Counter((row["account"], row["day"]) for row in rows)
    same("accounts and days", found, collections.Counter((place[0], place[2]) for place in bench.places.values()))
    same("partitions", len(found), len(ACCOUNTS) * len(DAYS))


def a_second_shipment_replaces_every_object_by_the_same(bench: Bench) -> None:
    """The same names, the same bytes, nothing besides."""
    before = bench.objects()
    bench.ship()
    same("objects", bench.objects(), before)
    same("objects", len(before), 2 * len(ACCOUNTS) * len(DAYS))


def the_job_says_who_failed_to_sign_in(bench: Bench) -> None:
    """By `spark-submit`, on some of the days."""
    submit = [bench.python.with_name("spark-submit"), "--conf", "spark.ui.enabled=false", JOB, "failed-logins"]
    submit += ["--data", bench.lake, "--since", DAYS[1], "--until", DAYS[3], "--output", bench.folder / "failed"]
    bench.run(submit)
    hers = [row for row in bench.answer("failed") if row["who"] == "mallory"]
    same("rows", len(hers), 1)
    same("account", hers[0]["account"], ACCOUNTS[0])
    same("failures", (hers[0]["events"], hers[0]["why"]), (3, "Failed authentication"))


def the_job_says_what_a_principal_touched(bench: Bench) -> None:
    """Each resource, with the account's leading zero given on the command line."""
    found = {(row["resource"], row["region"]): row["events"] for row in bench.answer("touched")}
    resources = ["arn:aws:s3:::secrets", "arn:aws:s3:::secrets/a"]
    same("resources", found, {(arn, region): n for arn in resources for region, n in zip(REGIONS, (3, 2), strict=True)})


def the_job_says_what_services_did_on_whose_behalf(bench: Bench) -> None:
    """As many events as the sink has marked so."""
    _, rows = bench.rows("pyarrow")
    marked = collections.Counter(row["actor_service"] for row in rows if row["actor_on_behalf_of"])
    answer = collections.Counter()
    for row in bench.answer("on-behalf"):
        answer[row.get("service")] += row["events"]
    same("services", answer, marked)
    if not marked:
        raise lane.LaneFailed("the sample has no such event")


def packed_by_the_job_every_event_is_there_once(bench: Bench) -> None:
    """One for each account, region and day."""
    _, rows = bench.rows("packed")
    check_rows(bench, rows)
    same("files", len(list((bench.folder / "packed").rglob("*.parquet"))), len(ACCOUNTS) * len(DAYS))


def merged_by_the_sink_every_event_is_there_once(bench: Bench) -> None:
    """Fewer objects than log files have parts, and one without rows; a second shipment adds nothing."""
    plain_types, _ = bench.rows("spark")
    for reader in ("merged-pyarrow", "merged-spark"):
        types, rows = bench.rows(reader)
        check_rows(bench, rows)
        if reader == "merged-spark":
            same("types", types, plain_types)
    before = sorted(str(path.relative_to(bench.merged)) for path in bench.merged.rglob("*.parquet"))
    dead = [name for name in before if name.endswith("merged-dead.parquet")]
    same("objects without rows", len(dead), 1)
    # Mostly one for both log files of an account and a day; a group may close before the second has come.
    least, parts = len(ACCOUNTS) * len(DAYS), 2 * len(ACCOUNTS) * len(DAYS)
    if not least < len(before) - 1 < parts:
        raise lane.LaneFailed(f"{len(before) - 1} objects for {parts} parts of log files")
    bench.ship_merged()
    same("objects", sorted(str(path.relative_to(bench.merged)) for path in bench.merged.rglob("*.parquet")), before)


CASES: list[Callable[[Bench], None]] = [
    pyarrow_reads_every_event_with_its_types,
    spark_reads_every_event_with_its_types,
    a_second_shipment_replaces_every_object_by_the_same,
    the_job_says_who_failed_to_sign_in,
    the_job_says_what_a_principal_touched,
    the_job_says_what_services_did_on_whose_behalf,
    packed_by_the_job_every_event_is_there_once,
    merged_by_the_sink_every_event_is_there_once,
]


def run(binary: Path, tools: Path, folder: Path, _more: Path | None) -> list[tuple[str, str | None]]:
    """Each case's name, and what failed in it."""
    bench = Bench(binary, environment(tools), folder)
    write_files(bench)
    bench.ship()
    bench.claim_one()
    bench.ship_merged()
    bench.read()
    results: list[tuple[str, str | None]] = []
    for case in CASES:
        try:
            case(bench)
            results.append((case.__name__, None))
        except (lane.LaneFailed, subprocess.TimeoutExpired) as error:
            results.append((case.__name__, str(error)))
    return results
