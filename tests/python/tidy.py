"""Keeps the tree tidy: sizes, opening sentences, names of tests, links, and nothing of somebody's machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE_LINES_MAX = 500
ARCHITECTURE_LINES_MAX = 200


def files(*suffixes: str) -> Iterator[Path]:
    """Tracked and new files with one of the suffixes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in sorted(filter(None, listed.split("\0"))):
        if name.endswith(suffixes) and (ROOT / name).is_file():
            yield ROOT / name


def rust_files_open_with_a_sentence(path: Path, text: str) -> Iterator[str]:
    """`//!`, that says what the file is for."""
    if path.suffix == ".rs" and not text.startswith("//! "):
        yield "does not open with a `//!` sentence"


def rust_files_stay_small(path: Path, text: str) -> Iterator[str]:
    """Without their tests."""
    if path.suffix != ".rs" or path.stem == "tests" or "tests" in path.relative_to(ROOT).parts:
        return
    lines = text.split("#[cfg(test)]\nmod tests", 1)[0].count("\n")
    if lines > CODE_LINES_MAX:
        yield f"{lines} lines without its tests; {CODE_LINES_MAX} at most"


def rust_tests_are_named_as_sentences(path: Path, text: str) -> Iterator[str]:
    """No `test_` prefix."""
    if path.suffix == ".rs":
        yield from (f"`{name}`: name it as a sentence" for name in re.findall(r"fn (test_\w+)", text))


def nothing_of_a_machine(_path: Path, text: str) -> Iterator[str]:
    """No absolute path of somebody's folders."""
    for found in re.findall(r"(?<![\w./$}])/(?:work|root|home)/[\w.-]+", text):
        yield f"`{found}` exists on one machine only"


def text_ends_well(path: Path, text: str) -> Iterator[str]:
    """A line break at the end, and no blanks before one."""
    if text and not text.endswith("\n"):
        yield "no line break at its end"
    if path.suffix != ".md" and re.search(r"[ \t]+$", text, re.MULTILINE):
        yield "blanks at the end of a line"


def links_lead_somewhere(path: Path, text: str) -> Iterator[str]:
    """Relative links of Markdown."""
    if path.suffix != ".md":
        return
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", without_code):
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
            yield f"link to `{target}`, which is not there"


def the_architecture_page_is_short(path: Path, text: str) -> Iterator[str]:
    """So that it is read."""
    if path.name == "ARCHITECTURE.md" and text.count("\n") > ARCHITECTURE_LINES_MAX:
        yield f"more than {ARCHITECTURE_LINES_MAX} lines"


def destinations_are_documented(path: Path, text: str) -> Iterator[str]:
    """Each type of the registry has a section in docs/sinks.md."""
    if path != ROOT / "sinks" / "src" / "destinations.rs":
        return
    documented = set(re.findall(r"^## `(\w+)`", (ROOT / "docs" / "sinks.md").read_text(), re.MULTILINE))
    for name in re.findall(r'^    "(\w+)" => \w+::', text, re.MULTILINE):
        if name not in documented:
            yield f"`{name}` has no section in docs/sinks.md"


def tests_of_the_threat_table_are_there(path: Path, text: str) -> Iterator[str]:
    """Each test that docs/security.md names is a function of some Rust file."""
    if path != ROOT / "docs" / "security.md":
        return
    functions = set[str]()
    for source in files(".rs"):
        functions.update(re.findall(r"\bfn (\w+)\(", source.read_text(encoding="utf-8")))
    for row in re.findall(r"^\|.*\|(.*)\|$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            if name not in functions:
                yield f"no test is named `{name}`"


def log_codes_are_documented(path: Path, text: str) -> Iterator[str]:
    """Each `code` of a log line has a row in docs/operations.md that says what to do."""
    if path.suffix != ".rs" or not {ROOT / "src", ROOT / "sinks" / "src"} & set(path.parents):
        return
    rows = re.findall(r"^\|(.*?)\|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    code, *_ = text.partition("#[cfg(test)]")
    for name in re.findall(r'code = "(\w+)"', code):
        if name not in documented:
            yield f"log code `{name}` has no row in docs/operations.md"


def selects_are_biased(path: Path, text: str) -> Iterator[str]:
    """Otherwise tokio draws which branch is looked at first, and a simulation cannot be replayed."""
    rooms = (ROOT / "src", ROOT / "sinks" / "src", ROOT / "testkit" / "src")
    if path.suffix != ".rs" or not any(room in path.parents for room in rooms):
        return
    for found in re.finditer(r"select! \{\s*(?!biased;)(?!\s)", text):
        yield f"line {text.count(chr(10), 0, found.start()) + 1}: `select!` without `biased;`"


RULES: list[Callable[[Path, str], Iterator[str]]] = [
    rust_files_open_with_a_sentence,
    rust_files_stay_small,
    rust_tests_are_named_as_sentences,
    nothing_of_a_machine,
    text_ends_well,
    links_lead_somewhere,
    the_architecture_page_is_short,
    destinations_are_documented,
    log_codes_are_documented,
    tests_of_the_threat_table_are_there,
    selects_are_biased,
]

SUFFIXES = (".rs", ".md", ".py", ".sh", ".toml", ".yml", ".yaml", ".json", "Makefile", "Dockerfile", ".ci/run")


def main() -> int:
    """Looks at every file; 0 if nothing is found."""
    found = [
        f"{path.relative_to(ROOT)}: {problem}"
        for path in files(*SUFFIXES)
        for text in [path.read_text(encoding="utf-8")]
        for rule in RULES
        for problem in rule(path, text)
    ]
    print("".join(f"tidy: {line}\n" for line in found), end="")
    print(f"tidy: {len(RULES)} rules, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
