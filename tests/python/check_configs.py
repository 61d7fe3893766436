"""Has the binary check every configuration that deploy/ and the repository ship."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import deployments
import lane

ROOT = deployments.DEPLOY.parent
EXAMPLE = ROOT / "config.example.toml"


def in_the_readme() -> dict[str, str]:
    """The configurations that the README shows."""
    blocks = re.findall(r"^( *)```toml\n(.*?)^ *```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    texts = [textwrap.dedent(block) for _, block in blocks]
    return {f"README.md, block {number}": text for number, text in enumerate(texts, start=1)}


def check(binary: Path, text: str) -> str | None:
    """What `check --offline` finds wrong with a configuration."""
    secrets = {name: "for-a-test" for name in re.findall(r"\$\{(\w+)", text)}
    command = [binary, "check", "--offline", "--config", "-"]
    environment = lane.environment() | secrets
    run = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, timeout=30)
    return None if run.returncode == 0 else f"exit code {run.returncode}: {run.stderr.strip() or run.stdout.strip()}"


def main() -> int:
    """Checks each; 0 if the binary takes all, and refuses one with an unknown key."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    binary = parser.parse_args().binary.resolve()
    texts = deployments.configurations() | in_the_readme() | {EXAMPLE.name: EXAMPLE.read_text()}
    results = {name: check(binary, text) for name, text in texts.items()}
    # A binary that takes everything would pass all of the above.
    if check(binary, next(iter(texts.values())) + "\n[no_such_table]\n") is None:
        results["an unknown table"] = "was not refused"
    for name, problem in results.items():
        print(f"configs: {name}: {'ok' if problem is None else problem}")
    failed = sum(problem is not None for problem in results.values())
    print(lane.closing_line("configs", len(results) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
