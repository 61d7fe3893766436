"""Breaks the agent on purpose, one promise at a time, in a copy, and shows that the tests notice: `make mutants`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIMULATION = ["--workspace", "--test", "simulation", "whatever_fails"]
CI_SEEDS = 50


@dataclass(frozen=True)
class Mutant:
    """One broken promise: what stands in a file, and what stands there instead."""

    name: str
    file: str
    old: str
    new: str
    # What the failing test says.
    says: str
    test: tuple[str, ...] = tuple(SIMULATION)


MUTANTS = [
    Mutant(
        "delete before delivery",
        "src/worker/job.rs",
        "if let Some(why) = self.close_all(&required).await.into_iter().find_map(Result::err) {",
        "drop(self.close_all(&required));\n        if let Some(why) = None::<String> {",
        "lost",
    ),
    Mutant(
        "a share treated as delivered on drop",
        "sinks/src/settle.rs",
        "drop(self.finish(Outcome::Released));",
        "drop(self.finish(Outcome::Delivered));",
        "lost",
    ),
    Mutant(
        "a short bulk answer treated as success",
        "sinks/src/destinations/elasticsearch/answer.rs",
        "        if bulk.items.len() != count {\n",
        "        let mut bulk = bulk;\n"
        "        if bulk.items.len() < count {\n"
        "            let missing = count - bulk.items.len();\n"
        "            let mut verdicts: Vec<_> =\n"
        "                bulk.items.drain(..).filter_map(|Entry(item)| Some(self.read_item(item?))).collect();\n"
        "            verdicts.extend(std::iter::repeat_n(Verdict::Delivered, missing));\n"
        "            return Judgement::Each(verdicts);\n"
        "        }\n"
        "        if bulk.items.len() != count {\n",
        "lost",
    ),
    Mutant(
        "the lease not extended",
        "src/sources/leases.rs",
        "            if gains && held.until",
        "            if gains && false && held.until",
        "a lease lapsed for nothing",
    ),
    Mutant(
        "the original deleted before its hand-off is sent",
        "src/worker/job/parting.rs",
        "        if parting.queue.hand_off(list).await.is_err() {\n            return false;\n        }\n",
        "        let queue = Arc::clone(&parting.queue);\n"
        "        tokio::spawn(async move { queue.hand_off(list).await });\n",
        "lost",
    ),
    Mutant(
        "a hand-off that was not sent taken for sent",
        "src/sources/sqs/bundles.rs",
        "                Trouble::Passes => {}\n",
        "                Trouble::Passes => {\n"
        "                    bundle.orders.into_iter().for_each(|order| _ = order.done.send(Ok(())));\n"
        "                    return;\n"
        "                }\n",
        "lost",
    ),
    Mutant(
        "a hand-off that settles what it does not name",
        "src/worker/job/parting.rs",
        "let list: Vec<_> = owed.iter().flat_map(write).collect();",
        "let list: Vec<_> = owed.iter().flat_map(write).skip(1).collect();",
        "lost",
    ),
    Mutant(
        "what was handed off noted as delivered",
        "src/worker/job/delivered.rs",
        "account.is_closed() && account.outcomes == *total",
        "account.is_closed() && *total > 0",
        "lost",
    ),
    Mutant(
        "an answer that never came treated as success",
        "sinks/src/http.rs",
        "Err(why) => Judgement::Unavailable { why, retry_after: None },",
        "Err(_) => Judgement::all(events.len(), &crate::Verdict::Delivered),",
        "lost",
    ),
    Mutant(
        "a refusal without a witness dead-lettered",
        "sinks/src/delivery.rs",
        "item.refused_at.is_some_and(|mark| self.health.accepted() > mark)",
        "item.refused_at.is_some()",
        "panicked",
        ("--workspace", "--test", "lane"),
    ),
    Mutant(
        "a write that is not synced",
        "src/ports/files.rs",
        "file.write_all(bytes).and_then(|()| file.sync())",
        "file.write_all(bytes)",
        "lost",
    ),
    Mutant(
        "a new file whose name is not synced",
        "src/ports/files.rs",
        "    if before == 0 {",
        "    if false {",
        "lost",
    ),
    Mutant(
        "a new folder whose name is not synced",
        "src/ports/files.rs",
        "    disk.create_folder(folder)?;\n    disk.sync_folder(&above)\n",
        "    disk.create_folder(folder)\n",
        "lost",
    ),
]


def copy_to(folder: Path) -> None:
    """Everything that is tracked or new, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def survives(mutant: Mutant, folder: Path, seeds: int, target: Path) -> str | None:
    """Why the mutant was not caught; nothing where it was."""
    path = folder / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return f"{mutant.file} does not hold once what the mutant changes"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        command = ["cargo", "test", "--locked", "--quiet", *mutant.test]
        environment = os.environ | {
            "TRAILSHIP_SIMULATION_SEEDS": str(seeds),
            "TRAILSHIP_SIMULATION_FAIL_FAST": "1",
            "CARGO_TERM_COLOR": "never",
            # Of their own: two copies of a workspace that share one mix up what they built.
            "CARGO_TARGET_DIR": str(target),
        }
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        path.write_text(text)
    said = ran.stdout + ran.stderr
    if ran.returncode == 0:
        return "all tests pass"
    if mutant.says not in said or "could not compile" in said:
        return f"something else failed:\n{said[-3000:]}"
    return None


def main() -> int:
    """Tries each mutant; 0 if all are caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=CI_SEEDS, help="of the simulation, each time")
    parser.add_argument("--target", type=Path, default=ROOT / "target" / "mutants", help="what is built goes here")
    parser.add_argument("names", nargs="*", help="words of the mutants to try; default: all")
    options = parser.parse_args()
    wanted = [m for m in MUTANTS if not options.names or any(word in m.name for word in options.names)]
    alive = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_to(folder)
        for mutant in wanted:
            why = survives(mutant, folder, options.seeds, options.target)
            alive += why is not None
            print(f"mutants: {mutant.name}: {'caught' if why is None else 'NOT CAUGHT: ' + why}", flush=True)
    print(f"mutants: {len(wanted)} tried, {alive} not caught")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
