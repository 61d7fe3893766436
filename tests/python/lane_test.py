"""The judge of the lanes has to notice each kind of defect."""

import gzip
import tempfile
import unittest
from pathlib import Path

import lane

RECORD = b'{"eventID":"1","n":1.68E9,"text":"a}\\",\\u202f"}'
KEY = "AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/01/x.json.gz"
ADDITIONS = b'{"actor":{"class":"principal","kind":"iam_user"},"bucket":"b","key":"%s","record":0}' % KEY.encode()
LINE = RECORD[:-1] + b',"trailship":' + ADDITIONS + b"}"
ISSUED = {("b", KEY, 0): RECORD}


class Judge(unittest.TestCase):
    def test_a_record_with_its_additions_spliced_in_passes(self):
        lane.judge(ISSUED, [LINE]).check()

    def test_an_empty_record_gets_no_comma(self):
        line = b'{"trailship":' + ADDITIONS + b"}"
        lane.judge({("b", KEY, 0): b"{}"}, [line]).check()

    def test_each_defect_is_noticed(self):
        defects = {
            "lost": [],
            "invented": [LINE, LINE.replace(b'"record":0', b'"record":1')],
            "altered": [LINE.replace(b"1.68E9", b"1680000000.0")],
            "stored twice": [LINE, LINE],
            "unclassified": [LINE.replace(b'"class":"principal"', b'"class":"unknown"')],
        }
        for defect, lines in defects.items():
            with self.subTest(defect), self.assertRaisesRegex(lane.LaneFailed, defect):
                lane.judge(ISSUED, lines).check()

    def test_only_an_identity_that_cloudtrail_does_not_know_may_be_unknown(self):
        record = b'{"userIdentity":{"type":"Unknown"}}'
        for name, passes in ((b"unknown", True), (b"principal", False)):
            additions = ADDITIONS.replace(b'"class":"principal"', b'"class":"%s"' % name)
            findings = lane.judge({("b", KEY, 0): record}, [record[:-1] + b',"trailship":' + additions + b"}"])
            with self.subTest(name):
                self.assertEqual(findings.unclassified == [], passes)

    def test_a_second_key_beside_the_additions_is_an_alteration(self):
        with self.assertRaisesRegex(lane.LaneFailed, "altered"):
            lane.judge(ISSUED, [LINE[:-1] + b',"more":1}']).check()

    def test_text_that_is_no_event_is_invented(self):
        for line in (b"not json", b"[]", b'"text"', b"{}"):
            with self.subTest(line), self.assertRaisesRegex(lane.LaneFailed, "invented"):
                lane.judge(ISSUED, [LINE, line]).check()


class LogFiles(unittest.TestCase):
    def test_records_are_the_bytes_of_the_document(self):
        document = b' { "Records" : [' + RECORD + b" ,\n" + b'{"a":[1,{"b":"]"}]}' + b"]}"
        self.assertEqual(lane.records_of(document), [RECORD, b'{"a":[1,{"b":"]"}]}'])
        self.assertEqual(lane.records_of(b'{"Records":[]}'), [])

    def test_a_key_is_made_from_the_name(self):
        name = "111122223333_CloudTrail_eu-west-1_20240501T1205Z_abcdefgh12345678.json.gz"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(gzip.compress(b'{"Records":[' + RECORD + b"]}"))
            file = lane.LogFile.read(path)
        self.assertEqual(file.records, [RECORD])
        self.assertEqual(file.key("p/"), f"p/AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/01/{name}")


class MetricsText(unittest.TestCase):
    TEXT = """# HELP trailship_sink_events_total x
# TYPE trailship_sink_events_total counter
trailship_sink_events_total{outcome="delivered",sink="a"} 7
trailship_sink_events_total{outcome="duplicate",sink="a"} 1
trailship_sink_events_total{outcome="delivered",sink="ab"} 100
trailship_sink_events_offered_total{sink="a"} 10
trailship_sink_events_in_flight{sink="a"} 2
"""

    def test_series_are_added_up_by_exact_labels(self):
        metrics = lane.Metrics(self.TEXT)
        self.assertEqual(metrics.total("trailship_sink_events_total", sink="a"), 8)
        self.assertEqual(metrics.total("trailship_sink_events_total", outcome="delivered"), 107)
        self.assertEqual(metrics.names(), {"trailship_sink_events_total"})

    def test_conservation_is_checked(self):
        lane.Metrics(self.TEXT).check_conservation("a")
        with self.assertRaisesRegex(lane.LaneFailed, "offered 10"):
            lane.Metrics(self.TEXT.replace('in_flight{sink="a"} 2', 'in_flight{sink="a"} 3')).check_conservation("a")


if __name__ == "__main__":
    unittest.main()
