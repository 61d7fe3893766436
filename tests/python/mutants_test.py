"""What the mutants change has to be there: a mutant that changes nothing proves nothing."""

import unittest

import mutants


class Mutants(unittest.TestCase):
    def test_what_is_changed_stands_in_its_file_once(self):
        for mutant in mutants.MUTANTS:
            with self.subTest(mutant.name):
                text = (mutants.ROOT / mutant.file).read_text(encoding="utf-8")
                self.assertEqual(text.count(mutant.old), 1)
