"""Runs the lanes against real servers; one that cannot be had is skipped by name, with the reason."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import servers

import dynamodb_local
import elasticmq
import go_lumber
import lane
import nginx
import opensearch
import parquet
import splunk_logging
import syslog_lane
import victorialogs

LANES = {
    "DynamoDB Local 2.5.2": dynamodb_local.run,
    "ElasticMQ 1.6.11": elasticmq.run,
    "OpenSearch 2.19.3": opensearch.run,
    "VictoriaLogs 1.52.1": victorialogs.run,
    "splunk-logging 0.11.1": splunk_logging.run,
    "go-lumber 0.1.0": go_lumber.run,
    "nginx": nginx.run,
    "rsyslog": syslog_lane.rsyslog,
    "syslog-ng": syslog_lane.syslog_ng,
    "PySpark 4.3.0 and pyarrow 26.0.1": parquet.run,
}


def main() -> int:
    """Runs every lane; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True, help="where fetched servers are kept")
    parser.add_argument("--log-files", type=Path, help="a folder with log files of your own, plain JSON")
    options = parser.parse_args()
    passed = failed = skipped = 0
    for name, run in LANES.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="trailship-real-") as folder:
            try:
                results = run(options.binary.resolve(), options.tools.resolve(), Path(folder), options.log_files)
            except servers.CannotBeHad as error:
                print(f"skipped: {name}: {error}")
                skipped += 1
                continue
            except (lane.LaneFailed, OSError) as error:
                results = [("the lane itself", f"{type(error).__name__}: {error}")]
        for case, failure in results:
            print(f"{name}: {case.replace('_', ' ')}: {'ok' if failure is None else 'FAILED: ' + failure}")
            passed, failed = passed + (failure is None), failed + (failure is not None)
        print(f"{name}: {time.monotonic() - start:.0f} s")
    print(lane.closing_line("real", passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
