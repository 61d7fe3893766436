"""The table of faults names tests and simulated faults: each has to exist, and no fault may be missing."""

import re
import unittest
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = 52
# No test yet: the feature is to come.
UNTESTED = {51}


def rows() -> Iterator[list[str]]:
    """The cells of each row of a table of faults."""
    for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and not set(cells[0]) & {"#", "-"}:
            yield cells


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def tests() -> set[str]:
    """Names of all test functions in the sources."""
    found: set[str] = set()
    for path in ROOT.rglob("*.rs"):
        if "target" not in path.relative_to(ROOT).parts:
            text = path.read_text(encoding="utf-8")
            found.update(re.findall(r"#\[(?:tokio::)?test\b[^\n]*\]\s*(?:#\[[^\n]*\]\s*)*(?:async )?fn (\w+)", text))
            # Those that a property's macro holds.
            found.update(re.findall(r"^        fn (\w+)\([^)]* in ", text, re.MULTILINE))
    return found


class Faults(unittest.TestCase):
    def test_every_test_that_is_named_exists(self):
        known = tests()
        for cells in rows():
            for name in filter(lambda name: "_" in name, names(cells[3])):
                with self.subTest(fault=cells[1], test=name):
                    self.assertIn(name, known)

    def test_every_simulated_fault_that_is_named_exists(self):
        text = (ROOT / "tests" / "simulation" / "faults.rs").read_text(encoding="utf-8")
        for cells in rows():
            for name in names(cells[4]):
                with self.subTest(fault=cells[1], simulated=name):
                    self.assertIn(f'"{name}"', text)

    def test_every_simulated_fault_stands_in_the_table(self):
        text = (ROOT / "tests" / "simulation" / "faults.rs").read_text(encoding="utf-8")
        known = set(re.findall(r'^        \("([^"]+)", ', text, re.MULTILINE))
        known.update(re.findall(r'^        "([^"]+)",$', text, re.MULTILINE))
        self.assertGreater(len(known), 40)
        named = {name for cells in rows() for name in names(cells[4])}
        self.assertEqual(known - named, set())

    def test_every_fault_has_a_row_with_a_test(self):
        numbers = [int(cells[0]) for cells in rows() if cells[0]]
        self.assertEqual(sorted(numbers), list(range(1, FAULTS + 1)))
        for cells in rows():
            if cells[0] and int(cells[0]) not in UNTESTED:
                with self.subTest(fault=cells[1]):
                    self.assertTrue(cells[3] or cells[4])


if __name__ == "__main__":
    unittest.main()
