//! What the queue and the bucket can testify: why a log file was read more than once.

use std::collections::HashMap;

use super::report::Cause;

/// One delivery of a message that names a log file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Delivery {
    /// The message's id; the same for every delivery of one message.
    pub message_id: String,
    /// Which of the copies that SQS made of it: 0 is the message itself, as it is where copies are not told apart.
    pub copy: u32,
    /// Which receipt handle of this copy, for a reader of the evidence.
    pub generation: u32,
    /// When it was handed out, in microseconds since 1970.
    pub at_us: u64,
    /// When its lease ended without the message having been deleted: it lapsed, or the agent gave it back.
    pub lease_ended_us: Option<u64>,
    /// Whether its lease ended because who had it was killed.
    pub reader_killed: bool,
    /// When it was deleted.
    pub deleted_at_us: Option<u64>,
    /// What it says is owed, where the message is a hand-off of the agent's own.
    pub handoff: Option<Owed>,
}

/// What a hand-off says is owed of a log file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Owed {
    /// The sink's name.
    pub sink: String,
    /// Half-open ranges of positions.
    pub ranges: Vec<(u64, u64)>,
}

impl Owed {
    fn has(&self, sink: &str, index: u64) -> bool {
        self.sink == sink && self.ranges.iter().any(|(start, end)| (*start..*end).contains(&index))
    }
}

/// What the stand-ins for SQS and S3 saw, as far as it explains duplicates.
#[derive(Clone, Debug, Default)]
pub struct QueueEvidence {
    /// Messages that are left: visible, in flight, delayed or in a dead-letter queue. A run passes with none.
    pub messages_left: u64,
    objects: HashMap<String, HashMap<String, Object>>,
}

#[derive(Clone, Debug, Default)]
struct Object {
    deliveries: Vec<Delivery>,
    broken_reads_us: Vec<u64>,
    /// What stands in messages that are still there: all of it for everybody, or what a hand-off says.
    pending: Vec<Option<Owed>>,
}

impl QueueEvidence {
    /// Notes that a message naming the object was handed out.
    pub fn delivered(&mut self, bucket: &str, key: &str, delivery: Delivery) {
        self.object(bucket, key).deliveries.push(delivery);
    }

    /// Notes that a message naming the object is still there: what it stands for is owed.
    pub fn pending(&mut self, bucket: &str, key: &str, handoff: Option<Owed>) {
        self.object(bucket, key).pending.push(handoff);
    }

    /// Whether a message that is still there stands for the event.
    pub(super) fn owes(&self, bucket: &str, key: &str, sink: &str, index: u64) -> bool {
        let object = self.objects.get(bucket).and_then(|keys| keys.get(key));
        let pending = object.map(|object| object.pending.as_slice()).unwrap_or_default();
        pending.iter().any(|owed| owed.as_ref().is_none_or(|owed| owed.has(sink, index)))
    }

    /// Notes that a read of the object was answered with broken bytes, or with fewer than announced.
    pub fn broken_read(&mut self, bucket: &str, key: &str, at_us: u64) {
        self.object(bucket, key).broken_reads_us.push(at_us);
    }

    fn object(&mut self, bucket: &str, key: &str) -> &mut Object {
        self.objects.entry(bucket.to_owned()).or_default().entry(key.to_owned()).or_default()
    }

    /// The occasions on which an event of the object could be sent once more to a sink, in the order of time. A hand-off
    /// is one for what it names alone.
    ///
    /// The first delivery is no occasion for a second copy; each further one is. Without a queue (a folder, `ship`)
    /// each crash is one.
    pub(super) fn occasions(
        &self,
        (bucket, key): (&str, &str),
        (sink, index): (&str, u64),
        crashes_us: &[u64],
    ) -> Vec<(u64, Cause)> {
        let object = self.objects.get(bucket).and_then(|keys| keys.get(key));
        let concerns =
            |delivery: &&Delivery| delivery.handoff.as_ref().is_none_or(|owed| owed.has(sink, index));
        let mut deliveries: Vec<&Delivery> =
            object.map(|o| o.deliveries.iter().filter(concerns).collect()).unwrap_or_default();
        deliveries.sort_by_key(|delivery| delivery.at_us);
        let mut occasions: Vec<(u64, Cause)> = (1..deliveries.len())
            .map(|at| (deliveries[at].at_us, cause(deliveries[at], &deliveries[..at], crashes_us)))
            .collect();
        if deliveries.is_empty() {
            occasions.extend(crashes_us.iter().map(|&at_us| (at_us, Cause::Crash)));
        }
        let broken = object.map(|o| o.broken_reads_us.as_slice()).unwrap_or_default();
        occasions.extend(broken.iter().map(|&at_us| (at_us, Cause::RereadBroken)));
        occasions.sort_by_key(|(at_us, _)| *at_us);
        occasions
    }
}

/// Why an object was delivered again.
fn cause(delivery: &Delivery, before: &[&Delivery], crashes_us: &[u64]) -> Cause {
    let same: Vec<&&Delivery> = before.iter().filter(|d| d.message_id == delivery.message_id).collect();
    if same.is_empty() {
        return if delivery.handoff.is_some() { Cause::Handoff } else { Cause::SecondNotification };
    }
    // What happens to one copy says nothing about another.
    let Some(last) = same.iter().rfind(|d| d.copy == delivery.copy) else { return Cause::SqsDuplicate };
    // What was on its way to an agent when that was killed is handed out after the crash.
    if last.reader_killed || crashes_us.iter().any(|&crash| last.at_us < crash && crash <= delivery.at_us) {
        Cause::Crash
    } else if last.lease_ended_us.is_some_and(|end| end <= delivery.at_us) {
        Cause::LeaseLapsed
    } else {
        Cause::SqsDuplicate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(message_id: &str, at_us: u64) -> Delivery {
        Delivery { message_id: message_id.to_owned(), at_us, ..Delivery::default() }
    }

    fn causes(deliveries: Vec<Delivery>, crashes_us: &[u64]) -> Vec<Cause> {
        let mut evidence = QueueEvidence::default();
        for delivery in deliveries {
            evidence.delivered("b", "k", delivery);
        }
        evidence.occasions(("b", "k"), ("s", 3), crashes_us).into_iter().map(|(_, cause)| cause).collect()
    }

    #[test]
    fn the_first_delivery_explains_no_duplicate() {
        assert_eq!(causes(vec![delivery("m", 1)], &[]), []);
        assert_eq!(causes(vec![delivery("m", 1)], &[5]), [], "a crash without a redelivery explains nothing");
    }

    #[test]
    fn each_further_delivery_has_its_own_cause() {
        assert_eq!(causes(vec![delivery("m", 1), delivery("m", 2)], &[]), [Cause::SqsDuplicate]);
        assert_eq!(causes(vec![delivery("m", 1), delivery("n", 2)], &[]), [Cause::SecondNotification]);
        let handoff = |sink: &str, ranges: &[(u64, u64)]| {
            let handoff = Some(Owed { sink: sink.to_owned(), ranges: ranges.to_vec() });
            vec![delivery("m", 1), Delivery { handoff, ..delivery("h", 3) }]
        };
        assert_eq!(causes(handoff("s", &[(0, 1), (3, u64::MAX)]), &[]), [Cause::Handoff]);
        assert_eq!(causes(handoff("s", &[(0, 3), (4, 9)]), &[]), [], "it does not name the event");
        assert_eq!(causes(handoff("t", &[(0, 9)]), &[]), [], "it is for another sink");
        let lapsed = Delivery { lease_ended_us: Some(4), ..delivery("m", 1) };
        assert_eq!(causes(vec![delivery("m", 5), lapsed.clone()], &[]), [Cause::LeaseLapsed]);
        assert_eq!(causes(vec![lapsed.clone(), delivery("m", 3)], &[]), [Cause::SqsDuplicate]);
        let killed = Delivery { reader_killed: true, ..lapsed.clone() };
        assert_eq!(causes(vec![killed, delivery("m", 5)], &[0]), [Cause::Crash]);
        let copy = Delivery { copy: 1, ..delivery("m", 5) };
        assert_eq!(causes(vec![lapsed.clone(), copy], &[2]), [Cause::SqsDuplicate]);
        assert_eq!(causes(vec![lapsed, delivery("m", 5)], &[2]), [Cause::Crash]);
    }

    #[test]
    fn without_a_queue_each_crash_is_an_occasion_and_a_broken_read_always_is() {
        assert_eq!(causes(vec![], &[3, 9]), [Cause::Crash, Cause::Crash]);
        let mut evidence = QueueEvidence::default();
        evidence.delivered("b", "k", delivery("m", 1));
        evidence.broken_read("b", "k", 2);
        assert_eq!(evidence.occasions(("b", "k"), ("s", 0), &[]), [(2, Cause::RereadBroken)]);
        assert_eq!(evidence.occasions(("b", "other"), ("s", 0), &[]), []);
    }

    #[test]
    fn what_stands_in_a_message_that_is_still_there_is_owed() {
        let mut evidence = QueueEvidence::default();
        evidence.pending("b", "k", Some(Owed { sink: "s".to_owned(), ranges: vec![(2, 4)] }));
        evidence.pending("b", "new", None);
        let owes = |key: &str, sink: &str, index: u64| evidence.owes("b", key, sink, index);
        assert!(owes("k", "s", 3) && !owes("k", "s", 4) && !owes("k", "t", 3) && !owes("other", "s", 3));
        assert!(owes("new", "s", 0) && owes("new", "t", 99));
    }
}
