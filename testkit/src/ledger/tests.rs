//! That the judge notices every kind of defect, and passes what is sound.
#![allow(clippy::unwrap_used, clippy::panic, clippy::field_reassign_with_default)]

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::*;

const SINK: &str = "s";

fn event(index: u64) -> String {
    format!(r#"{{"eventID":"00000000-0000-4000-8000-{index:012}","n":{index}}}"#)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn issue(ledger: &Ledger, count: u64) {
    for index in 0..count {
        let event = event(index);
        let id = format!("00000000-0000-4000-8000-{index:012}");
        ledger.issue("b", "k", index, Some(&id), sha256(event.as_bytes()));
    }
}

fn seen(index: u64) -> Sighting {
    let position = Some(Position { bucket: "b".into(), key: "k".into(), index });
    Sighting { position, ..Additions::PLAIN.read(event(index).as_bytes()) }
}

/// Stores events in one request and answers it.
fn store(ledger: &Ledger, indexes: impl IntoIterator<Item = u64>, answer: Answer) -> u64 {
    let request = ledger.begin(SINK);
    for index in indexes {
        ledger.store(SINK, request, &seen(index));
    }
    ledger.answer(SINK, request, answer);
    request
}

fn judged(ledger: &Ledger, queue: &QueueEvidence) -> SinkReport {
    judge(ledger, &[SinkRule::new(SINK)], queue).sinks.remove(0)
}

fn plain(ledger: &Ledger) -> SinkReport {
    judged(ledger, &QueueEvidence::default())
}

#[test]
fn a_run_in_which_every_event_is_stored_once_passes() {
    let ledger = Ledger::new();
    issue(&ledger, 10);
    store(&ledger, 0..10, Answer::Given(200));
    let report = judge(&ledger, &[SinkRule::with_unique_ids(SINK)], &QueueEvidence::default());
    assert!(report.passes(), "{report}");
    assert_eq!(report.sinks[0].stored, 10);
    assert!(report.to_string().contains("s: passes: issued 10 = stored 10 + dead-lettered 0"), "{report}");
}

#[test]
fn a_lost_event_is_named() {
    let ledger = Ledger::new();
    issue(&ledger, 3);
    store(&ledger, [0, 2], Answer::Given(200));
    let report = plain(&ledger);
    assert_eq!(report.lost, ["s3://b/k#1 (00000000-0000-4000-8000-000000000001)"]);
    assert!(!report.passes());
    assert!(report.to_string().contains("FAILS"), "{report}");
}

#[test]
fn a_sink_that_saw_nothing_lost_everything() {
    let ledger = Ledger::new();
    issue(&ledger, 7);
    assert_eq!(plain(&ledger).lost.len(), 7);
    assert!(plain(&ledger).to_string().contains("lost: and 2 more"));
}

#[test]
fn an_invented_event_is_named() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, 0..2, Answer::Given(200));
    let report = plain(&ledger);
    assert_eq!(report.invented.len(), 1);
    assert!(report.invented[0].starts_with("s3://b/k#1 "), "{report}");
    assert!(!report.passes());
}

#[test]
fn text_that_is_no_event_is_invented() {
    let ledger = Ledger::new();
    let request = ledger.begin(SINK);
    ledger.store(SINK, request, &Additions::PLAIN.read(b"half an ev"));
    assert_eq!(plain(&ledger).invented.len(), 1);
}

#[test]
fn a_changed_event_is_corrupt_and_not_lost() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    let request = ledger.begin(SINK);
    let hash = ContentHash::of(b"other");
    ledger.store(SINK, request, &Sighting { hash, ..seen(0) });
    let report = plain(&ledger);
    assert_eq!((report.corrupt.len(), report.lost.len()), (1, 0), "{report}");
    assert!(!report.passes());
}

#[test]
fn a_duplicate_without_a_cause_fails() {
    let ledger = Ledger::new();
    issue(&ledger, 2);
    store(&ledger, 0..2, Answer::Given(200));
    store(&ledger, [1], Answer::Given(200));
    let report = plain(&ledger);
    assert_eq!(report.duplicates_without_cause.len(), 1);
    assert!(!report.passes());
}

#[test]
fn an_answer_explains_one_further_copy_and_no_more() {
    for (answer, cause) in [
        (Answer::Lost, Cause::AnswerLost),
        (Answer::MaybeIngested, Cause::MaybeIngested),
        (Answer::Unconfirmed, Cause::Unconfirmed),
    ] {
        let ledger = Ledger::new();
        issue(&ledger, 1);
        store(&ledger, [0], answer);
        store(&ledger, [0], Answer::Given(200));
        let report = plain(&ledger);
        assert!(report.passes(), "{report}");
        assert_eq!(report.duplicates.get(&cause), Some(&1));
        store(&ledger, [0], Answer::Given(200));
        assert_eq!(plain(&ledger).duplicates_without_cause.len(), 1);
    }
}

#[test]
fn the_answer_of_the_last_copy_explains_nothing() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Given(200));
    std::thread::sleep(Duration::from_millis(2));
    store(&ledger, [0], Answer::Lost);
    assert!(!plain(&ledger).passes());
}

#[test]
fn a_confirmation_that_came_before_the_further_copy_explains_nothing() {
    for (confirm_first, passes) in [(true, false), (false, true)] {
        let ledger = Ledger::new();
        issue(&ledger, 1);
        let first = store(&ledger, [0], Answer::Unconfirmed);
        if confirm_first {
            ledger.confirm(SINK, first);
            std::thread::sleep(Duration::from_millis(2));
        }
        store(&ledger, [0], Answer::Given(200));
        std::thread::sleep(Duration::from_millis(2));
        ledger.confirm(SINK, first);
        // A second confirmation does not undo the first.
        if confirm_first {
            let log_time_is_kept = plain(&ledger);
            assert!(!log_time_is_kept.passes(), "{log_time_is_kept}");
        }
        assert_eq!(plain(&ledger).passes(), passes);
    }
}

#[test]
fn a_redelivery_explains_one_further_copy_of_every_event() {
    let ledger = Ledger::new();
    issue(&ledger, 2);
    let mut queue = QueueEvidence::default();
    let delivery = |at_us| Delivery { message_id: "m".into(), at_us, ..Delivery::default() };
    queue.delivered("b", "k", delivery(ledger.now_us()));
    queue.delivered("b", "k", delivery(ledger.now_us()));
    store(&ledger, 0..2, Answer::Given(200));
    store(&ledger, 0..2, Answer::Given(200));
    let report = judged(&ledger, &queue);
    assert!(report.passes(), "{report}");
    assert_eq!(report.duplicates.get(&Cause::SqsDuplicate), Some(&2));
    store(&ledger, [0], Answer::Given(200));
    assert_eq!(judged(&ledger, &queue).duplicates_without_cause.len(), 1);
}

#[test]
fn a_delivery_after_the_copy_explains_nothing() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Given(200));
    store(&ledger, [0], Answer::Given(200));
    let mut queue = QueueEvidence::default();
    for (message, at_us) in [("m", 1), ("n", u64::MAX)] {
        queue.delivered("b", "k", Delivery { message_id: message.into(), at_us, ..Delivery::default() });
    }
    assert_eq!(judged(&ledger, &queue).duplicates_without_cause.len(), 1);
}

#[test]
fn a_crash_explains_copies_only_after_it() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Given(200));
    ledger.crash();
    store(&ledger, [0], Answer::Given(200));
    assert_eq!(plain(&ledger).duplicates.get(&Cause::Crash), Some(&1));
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Given(200));
    store(&ledger, [0], Answer::Given(200));
    std::thread::sleep(Duration::from_millis(2));
    ledger.crash();
    assert!(!plain(&ledger).passes());
}

#[test]
fn where_ids_are_unique_no_duplicate_is_allowed_even_with_a_cause() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Lost);
    store(&ledger, [0], Answer::Given(200));
    let rule = [SinkRule::with_unique_ids(SINK)];
    assert!(!judge(&ledger, &rule, &QueueEvidence::default()).passes());
}

#[test]
fn where_ids_are_unique_a_dead_letter_may_come_again_with_a_cause() {
    for (crashes, passes) in [(1, true), (0, false)] {
        let ledger = Ledger::new();
        issue(&ledger, 2);
        store(&ledger, [0], Answer::Given(200));
        let twice = dead_letter(1, &event(1)).repeat(2);
        ledger.read_dead_letters(twice.as_bytes(), &[SINK]).unwrap();
        (0..crashes).for_each(|_| ledger.crash());
        let rule = [SinkRule::with_unique_ids(SINK)];
        let report = judge(&ledger, &rule, &QueueEvidence::default());
        assert_eq!(report.passes(), passes, "{report}");
    }
}

#[test]
fn an_event_with_the_id_and_the_bytes_of_another_is_stored_with_it_only_where_ids_are_unique() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    ledger.issue("b", "other", 0, Some("00000000-0000-4000-8000-000000000000"), sha256(event(0).as_bytes()));
    let request = store(&ledger, [0], Answer::Given(200));
    ledger.conflict(SINK, request, &seen(0));
    let report = judge(&ledger, &[SinkRule::with_unique_ids(SINK)], &QueueEvidence::default());
    assert!(report.passes(), "{report}");
    assert_eq!((report.sinks[0].same_id, report.sinks[0].conflicts), (1, 1));
    assert_eq!(plain(&ledger).lost.len(), 1);
}

#[test]
fn a_document_that_took_the_id_of_another_makes_that_one_lost() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    let request = ledger.begin(SINK);
    let entry = ledger.store(SINK, request, &seen(0));
    assert!(plain(&ledger).passes());
    ledger.retract(SINK, entry);
    assert_eq!(plain(&ledger).lost.len(), 1);
}

#[test]
fn copies_without_a_position_are_matched_by_id_and_then_by_content() {
    let ledger = Ledger::new();
    issue(&ledger, 2);
    ledger.issue("b", "k", 2, None, sha256(b"{\"a\":1}"));
    ledger.issue("b", "k", 3, None, sha256(b"{\"a\":1}"));
    let request = ledger.begin(SINK);
    for index in 0..2 {
        ledger.store(SINK, request, &Additions::PLAIN.read(event(index).as_bytes()));
    }
    ledger.store(SINK, request, &Additions::PLAIN.read(b"{\"a\":1}"));
    assert_eq!(plain(&ledger).lost, ["s3://b/k#3 (no id)"]);
    ledger.store(SINK, request, &Additions::PLAIN.read(b"{\"a\":1}"));
    assert!(plain(&ledger).passes(), "{}", plain(&ledger));
    let changed = event(1).replace("\"n\":1", "\"n\":2");
    ledger.store(SINK, request, &Additions::PLAIN.read(changed.as_bytes()));
    assert_eq!(plain(&ledger).corrupt.len(), 1);
}

#[test]
fn a_filtered_event_is_not_owed_and_must_not_come() {
    let ledger = Ledger::new();
    issue(&ledger, 2);
    ledger.filter(SINK, "b", "k", 1);
    store(&ledger, [0], Answer::Given(200));
    assert!(plain(&ledger).passes());
    assert_eq!(plain(&ledger).filtered, 1);
    store(&ledger, [1], Answer::Given(200));
    let report = plain(&ledger);
    assert_eq!(report.invented.len(), 1);
    assert!(report.to_string().contains("must not get it"), "{report}");
}

fn dead_letter(index: u64, record: &str) -> String {
    let hash: String = sha256(record.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    let letter = serde_json::json!({
        "v": 1, "time": "2026-01-01T00:00:00.000Z", "sink": SINK, "sink_type": "elasticsearch",
        "reason_code": "mapping", "reason": "x", "status": 400, "attempts": 1, "bucket": "b", "key": "k",
        "record_index": index, "record": record, "record_sha256": hash,
    });
    format!("{letter}\n")
}

#[test]
fn dead_letters_count_by_their_content() {
    let ledger = Ledger::new();
    issue(&ledger, 3);
    store(&ledger, [0], Answer::Given(200));
    let base64 = serde_json::json!({
        "v": 1, "sink": SINK, "reason_code": "mapping", "bucket": "b", "key": "k", "record_index": 2,
        "record_base64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, event(2)),
    });
    let letters = format!("{}{base64}\n{{\"torn\":", dead_letter(1, &event(1)));
    assert_eq!(ledger.read_dead_letters(letters.as_bytes(), &[]).unwrap(), 2);
    let report = plain(&ledger);
    assert!(report.passes(), "{report}");
    assert_eq!((report.stored, report.dead_lettered), (1, 2));
}

#[test]
fn a_dead_letter_of_a_stored_event_or_with_other_bytes_or_that_nobody_issued_fails() {
    for (letter, list) in
        [(dead_letter(0, &event(0)), 0), (dead_letter(1, &event(2)), 1), (dead_letter(9, "{}"), 2)]
    {
        let ledger = Ledger::new();
        issue(&ledger, 2);
        store(&ledger, 0..2, Answer::Given(200));
        ledger.read_dead_letters(letter.as_bytes(), &[]).unwrap();
        let report = plain(&ledger);
        let lists = [&report.duplicates_without_cause, &report.corrupt, &report.invented];
        assert_eq!(lists.map(Vec::len), std::array::from_fn(|at| usize::from(at == list)), "{report}");
    }
}

#[test]
fn what_is_no_dead_letter_is_an_error_that_names_the_line() {
    let ledger = Ledger::new();
    let good = dead_letter(0, "{}");
    for bad in [
        "{}\n".to_owned(),
        "no json\n".to_owned(),
        good.replace("\"v\":1", "\"v\":2"),
        good.replace("\"record\":\"{}\"", "\"record\":\"{ }\""),
        good.replace("\"sink\":\"s\",", ""),
        good.replace("\"record\":\"{}\",", ""),
    ] {
        assert_ne!(bad, good);
        let error = ledger.read_dead_letters(format!("{good}{bad}").as_bytes(), &[]).unwrap_err();
        assert!(error.to_string().starts_with("dead letter in line 2: "), "{error}");
    }
}

#[test]
fn the_rest_of_an_unreadable_log_file_is_accounted_for() {
    let ledger = Ledger::new();
    issue(&ledger, 4);
    store(&ledger, 0..2, Answer::Given(200));
    let letter =
        r#"{"v":1,"stage":"read","reason_code":"unreadable","bucket":"b","key":"k","record_index":3}"#;
    ledger.read_dead_letters(format!("{letter}\n").as_bytes(), &[SINK]).unwrap();
    let report = plain(&ledger);
    assert_eq!((report.unread, report.lost.len()), (1, 1), "{report}");
}

#[test]
fn evidence_survives_being_written_and_read() {
    let ledger = Ledger::new();
    issue(&ledger, 3);
    store(&ledger, 0..3, Answer::Lost);
    store(&ledger, [1], Answer::Given(200));
    ledger.conflict(SINK, 1, &seen(2));
    ledger.store(SINK, 1, &Additions::PLAIN.read(b"{\"odd\":1}"));
    let mut text = Vec::new();
    ledger.write_evidence(SINK, &mut text).unwrap();
    let other = Ledger::new();
    issue(&other, 3);
    // Requests that the other ledger has already are not mixed up with those of the evidence.
    store(&other, [], Answer::Given(200));
    assert_eq!(other.read_evidence(text.as_slice()).unwrap(), 2 + 6);
    assert_eq!(plain(&other), plain(&ledger));
    assert_eq!(plain(&other).duplicates.get(&Cause::AnswerLost), Some(&1));
    let error = other.read_evidence(&b"{\"what\":\"else\"}\n"[..]).unwrap_err();
    assert!(error.to_string().starts_with("evidence in line 1: "), "{error}");
}

#[test]
fn the_lines_of_a_file_sink_are_booked_and_a_torn_last_one_is_not() {
    let ledger = Ledger::new();
    issue(&ledger, 2);
    let ours = r#""trailship":{"actor":{},"bucket":"b","key":"k","record":"#;
    let line = |index| format!("{},{ours}{index}}}}}\n", event(index).trim_end_matches('}'));
    let file = format!("{}{}{{\"eventID\":", line(0), line(1));
    assert_eq!(ledger.read_lines(SINK, Additions::PLAIN, file.as_bytes()).unwrap(), 2);
    assert!(plain(&ledger).passes(), "{}", plain(&ledger));
    ledger.read_lines(SINK, Additions::PLAIN, line(0).as_bytes()).unwrap();
    assert_eq!(plain(&ledger).duplicates_without_cause.len(), 1);
    ledger.crash_at(5);
    assert!(plain(&ledger).passes());
}

#[test]
fn messages_left_on_the_queue_fail_the_run() {
    let ledger = Ledger::new();
    let mut queue = QueueEvidence::default();
    queue.messages_left = 1;
    assert!(!judge(&ledger, &[], &queue).passes());
}

#[test]
fn ids_that_are_no_uuid_are_told_apart() {
    use super::state::event_key;
    assert_eq!(event_key(None), 0);
    assert_eq!(event_key(Some("00000000-0000-4000-8000-00000000000a")), 0x4000_8000_0000_0000_000a);
    assert_ne!(event_key(Some("00000000-0000-4000-8000-00000000000A")), 0x4000_8000_0000_0000_000a);
    assert_ne!(event_key(Some("a")), event_key(Some("b")));
    assert_ne!(event_key(Some("a")), 10);
}

#[test]
fn every_duplicate_of_many_is_explained() {
    let ledger = Ledger::new();
    issue(&ledger, 20_000);
    store(&ledger, 0..20_000, Answer::Lost);
    store(&ledger, 0..20_000, Answer::Given(200));
    let report = plain(&ledger);
    assert!(report.passes(), "{report}");
    assert_eq!(report.duplicates.get(&Cause::AnswerLost), Some(&20_000));
}

#[test]
fn a_moved_clock_keeps_deliveries_before_copies() {
    let ledger = Ledger::new();
    issue(&ledger, 1);
    store(&ledger, [0], Answer::Given(200));
    ledger.advance(Duration::from_secs(3600));
    let mut queue = QueueEvidence::default();
    for (generation, at_us) in [(1, 1), (2, ledger.now_us())] {
        let delivery = Delivery { message_id: "m".into(), generation, at_us, ..Delivery::default() };
        queue.delivered("b", "k", delivery);
    }
    store(&ledger, [0], Answer::Given(200));
    assert!(judged(&ledger, &queue).passes());
}
