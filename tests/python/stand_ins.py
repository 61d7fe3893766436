"""The stand-ins in a process of their own, and the cases of a client of another hand against one of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import lane


class Behaves(Protocol):
    """What drives a stand-in."""

    def behave(self) -> None:
        """Nothing goes wrong any more."""


Driver = TypeVar("Driver", bound=Behaves)


@contextlib.contextmanager
def running(testkit: Path, folder: Path) -> Iterator[dict]:
    """The stand-ins' process until the block ends; their addresses."""
    process = subprocess.Popen([testkit, "destinations", "--dir", folder], stdout=subprocess.DEVNULL)
    addresses = folder / "addresses.json"
    try:
        lane.wait_until("the stand-ins", 30, lambda: process.poll() is not None or addresses.exists())
        if process.poll() is not None:
            raise lane.LaneFailed(f"the stand-ins ended with exit code {process.returncode}")
        yield json.loads(addresses.read_text())
    finally:
        process.terminate()
        process.wait(10)


def run(name: str, about: str, drive: Callable[[dict], Driver], cases: list[Callable[[Driver], None]]) -> int:
    """Runs every case; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--testkit", type=Path, required=True, help="the binary of the stand-ins")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="trailship-client-") as folder:
        with running(options.testkit.resolve(), Path(folder)) as addresses:
            driver = drive(addresses)
            for case in cases:
                driver.behave()
                try:
                    case(driver)
                # Whatever a client raises that the case did not expect is a failure, and not the end of the others.
                except Exception as error:
                    failed += 1
                    print(f"{name}: {case.__name__.replace('_', ' ')}: FAILED: {type(error).__name__}: {error}")
    print(lane.closing_line(name, len(cases) - failed, failed))
    return 1 if failed else 0
