//! The rules of a queue, driven by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, HashMap};

use super::*;

const SECOND: Millis = 1000;

fn sqs(seed: u64, behaviour: QueueBehaviour) -> Sqs {
    let names = Names { account: "1".into(), region: "r".into() };
    let mut sqs = Sqs::new(seed, names);
    sqs.create("q", 0).behaviour = behaviour;
    sqs
}

fn send(sqs: &mut Sqs, body: &str, now: Millis) -> String {
    let out = Outgoing { body: body.to_owned(), ..Outgoing::default() };
    sqs.send("q", out, now).unwrap().id.clone()
}

fn bodies(handed: &[Handed]) -> Vec<&str> {
    handed.iter().map(|one| one.message.body.as_str()).collect()
}

/// Receives everything once, ten at a time, and gives the order.
fn order(seed: u64, shuffle: bool) -> Vec<String> {
    let mut sqs = sqs(seed, QueueBehaviour { shuffle, ..QueueBehaviour::default() });
    for at in 0..50 {
        send(&mut sqs, &at.to_string(), 0);
    }
    let mut seen = Vec::new();
    loop {
        let handed = sqs.receive("q", 10, None, 1).unwrap();
        if handed.is_empty() {
            break seen;
        }
        seen.extend(bodies(&handed).into_iter().map(str::to_owned));
    }
}

#[test]
fn a_plain_queue_keeps_order_and_a_shuffled_one_is_shuffled_by_seed() {
    let sorted: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    assert_eq!(order(1, false), sorted);
    let shuffled = order(1, true);
    assert_ne!(shuffled, sorted);
    assert_eq!(shuffled, order(1, true));
    assert_ne!(shuffled, order(2, true));
    assert_eq!(shuffled.iter().collect::<BTreeSet<_>>().len(), 50);
}

#[test]
fn a_duplicate_has_its_own_handle_and_outlives_the_delete_of_its_original() {
    let behaviour = QueueBehaviour { duplicates: 1.0, duplicate_delay_ms: 0, ..QueueBehaviour::default() };
    let mut sqs = sqs(1, behaviour);
    let id = send(&mut sqs, "x", 0);
    let first = sqs.receive("q", 10, None, 1).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(sqs.counts("q", 0).unwrap(), QueueCounts { visible: 0, in_flight: 1, delayed: 1 });
    let second = sqs.receive("q", 10, None, 1).unwrap();
    assert_eq!((second.len(), second[0].message.id.as_str()), (1, id.as_str()));
    assert_ne!(first[0].handle, second[0].handle);
    sqs.delete("q", &first[0].handle, 2).unwrap();
    assert_eq!(sqs.counts("q", 2).unwrap().in_flight, 1);
    sqs.change_visibility("q", &second[0].handle, SECOND, 2).unwrap();
    sqs.delete("q", &second[0].handle, 3).unwrap();
    assert!(sqs.counts("q", 3).unwrap().is_empty());
    let life = &sqs.histories(None)[0];
    assert!(life.gone);
    let copies: Vec<_> = life.deliveries.iter().map(|d| (d.copy, d.generation, d.deleted_ms)).collect();
    assert_eq!(copies, [(0, 1, Some(2)), (1, 1, Some(3))]);
    // A duplicate is made once: receiving again makes no third copy.
    assert!(sqs.receive("q", 10, None, 60 * SECOND).unwrap().is_empty());
}

#[test]
fn duplicates_come_at_their_rate_and_every_message_comes() {
    let behaviour = QueueBehaviour { duplicates: 0.2, shuffle: true, ..QueueBehaviour::default() };
    let mut sqs = sqs(5, behaviour);
    for at in 0..1000 {
        send(&mut sqs, &at.to_string(), 0);
    }
    let mut times: HashMap<String, u32> = HashMap::new();
    for now in 0..3000 {
        for one in sqs.receive("q", 10, None, now).unwrap() {
            *times.entry(one.message.body.clone()).or_default() += 1;
            sqs.delete("q", &one.handle, now).unwrap();
        }
    }
    assert_eq!(times.len(), 1000);
    let twice = times.values().filter(|times| **times == 2).count();
    assert!((150..250).contains(&twice), "{twice}");
    assert!(sqs.counts("q", 3000).unwrap().is_empty());
}

#[test]
fn a_message_received_too_often_goes_to_the_dead_letter_queue() {
    let mut sqs = sqs(1, QueueBehaviour::default());
    sqs.create("dead", 0);
    sqs.queue("q").unwrap().settings.redrive = Some(Redrive { queue: "dead".into(), receives_max: 2 });
    let id = send(&mut sqs, "x", 0);
    for now in [0, 31 * SECOND] {
        assert_eq!(sqs.receive("q", 1, None, now).unwrap().len(), 1);
    }
    assert!(sqs.receive("q", 1, None, 62 * SECOND).unwrap().is_empty());
    assert!(sqs.counts("q", 62 * SECOND).unwrap().is_empty());
    let buried = sqs.receive("dead", 1, None, 62 * SECOND).unwrap();
    assert_eq!((buried[0].message.id.as_str(), buried[0].receive_count), (id.as_str(), 3));
    assert!(sqs.histories(Some("q"))[0].dead_lettered);
}

#[test]
fn a_full_queue_hands_out_nothing_until_something_is_deleted() {
    let mut sqs = sqs(1, QueueBehaviour { in_flight_max: 2, ..QueueBehaviour::default() });
    for body in ["a", "b", "c"] {
        send(&mut sqs, body, 0);
    }
    let handed = sqs.receive("q", 10, None, 0).unwrap();
    assert_eq!(handed.len(), 2);
    assert!(sqs.queue("q").unwrap().is_full());
    assert!(sqs.receive("q", 10, None, 0).unwrap().is_empty());
    sqs.delete("q", &handed[0].handle, 0).unwrap();
    assert_eq!(sqs.receive("q", 10, None, 0).unwrap().len(), 1);
}

#[test]
fn old_messages_expire_and_purged_ones_are_gone() {
    let mut sqs = sqs(1, QueueBehaviour::default());
    sqs.queue("q").unwrap().settings.retention_ms = 60 * SECOND;
    send(&mut sqs, "old", 0);
    send(&mut sqs, "new", 50 * SECOND);
    assert_eq!(bodies(&sqs.receive("q", 10, None, 70 * SECOND).unwrap()), ["new"]);
    assert_eq!(sqs.queue("q").unwrap().oldest_age_ms(70 * SECOND), Some(20 * SECOND));
    assert!(sqs.counts("q", 200 * SECOND).unwrap().is_empty());
    send(&mut sqs, "x", 200 * SECOND);
    sqs.purge("q", 200 * SECOND).unwrap();
    assert!(sqs.counts("q", 200 * SECOND).unwrap().is_empty());
    let whats: Vec<_> = sqs.log.iter().filter(|o| matches!(o.what, What::Expired | What::Purged)).collect();
    assert_eq!(whats.len(), 3);
}

#[test]
fn partial_batches_hand_out_fewer_than_asked_but_lose_nothing() {
    let mut sqs = sqs(1, QueueBehaviour { partial_batches: true, ..QueueBehaviour::default() });
    for at in 0..100 {
        send(&mut sqs, &at.to_string(), 0);
    }
    let mut sizes = BTreeSet::new();
    let mut all = 0;
    while all < 100 {
        let handed = sqs.receive("q", 10, None, 0).unwrap();
        assert!(!handed.is_empty());
        sizes.insert(handed.len());
        all += handed.len();
    }
    assert!(sizes.len() > 3, "{sizes:?}");
}

#[test]
fn a_handle_belongs_to_its_queue() {
    let mut sqs = sqs(1, QueueBehaviour::default());
    sqs.create("other", 0);
    send(&mut sqs, "x", 0);
    let handle = sqs.receive("q", 1, None, 0).unwrap().remove(0).handle;
    assert_eq!(sqs.delete("other", &handle, 0).unwrap_err().shape, "ReceiptHandleIsInvalid");
    assert_eq!(sqs.delete("none", &handle, 0).unwrap_err().shape, "ReceiptHandleIsInvalid");
    let parsed = Handle::parse(&handle, "q").unwrap();
    assert_eq!(parsed.encode("q"), handle);
}

#[test]
fn a_lease_that_lapsed_can_still_be_deleted_by_the_newest_handle() {
    let mut sqs = sqs(1, QueueBehaviour::default());
    send(&mut sqs, "x", 0);
    let handle = sqs.receive("q", 1, Some(SECOND), 0).unwrap().remove(0).handle;
    assert_eq!(sqs.counts("q", 2 * SECOND).unwrap().visible, 1);
    sqs.delete("q", &handle, 2 * SECOND).unwrap();
    assert!(sqs.receive("q", 1, None, 2 * SECOND).unwrap().is_empty());
}

#[test]
fn messages_that_sqs_refuses_are_refused() {
    let mut sqs = sqs(1, QueueBehaviour::default());
    let mut shape = |body: String| {
        sqs.send("q", Outgoing { body, ..Outgoing::default() }, 0).map_err(|e| e.shape).map(|_| ())
    };
    assert_eq!(shape(String::new()), Err("MissingParameter"));
    assert_eq!(shape("\u{1}".into()), Err("InvalidMessageContents"));
    assert_eq!(shape("x".repeat(MESSAGE_BYTES_MAX + 1)), Err("InvalidParameterValue"));
    assert_eq!(shape("x".repeat(MESSAGE_BYTES_MAX)), Ok(()));
}

#[test]
fn ids_are_version_4_uuids_and_differ() {
    let mut rng = Rng::new(1);
    let ids: BTreeSet<String> = (0..1000).map(|_| uuid(&mut rng)).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20])));
}
