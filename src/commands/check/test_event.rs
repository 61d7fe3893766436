//! One event that says it is a test, sent to a sink as any other would be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudtrail::{Limits, LogFileReader};
use serde_json::json;
use sinks::destinations::Finding;
use sinks::{Attempt, Event, Judgement, LogFile, ParcelMaker, Shape, Sink, Token, Verdict, Via};

use crate::app::{MadeSink, Makers};
use crate::config::SinkConfig;
use crate::meter::rfc3339;

/// How long a confirmation is waited for, and how often it is asked for.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// Sends it, and says what the destination made of it.
pub(super) async fn send(sink: &SinkConfig, makers: &Makers) -> Finding {
    let id = event_id(makers.random.next(), makers.random.next());
    let made = match makers.sink(sink) {
        Ok((MadeSink::Events(made), _)) => made,
        // Its object would be one that no log file explains.
        Ok((MadeSink::Objects(_), _)) => {
            return Finding::good("stores whole log files only: no test event is sent");
        }
        Err(error) => return Finding::failed(format!("{error:#}")),
    };
    let Some(event) = event(&id, makers.clock.now()) else {
        return Finding::failed("the event could not be made: please report this");
    };
    let events: Arc<[Event]> = Arc::from([event]);
    let mut judgement = send_as(&*made, &events, Shape::Normal).await;
    if matches!(&judgement, Judgement::Each(verdicts) if matches!(verdicts.as_slice(), [Verdict::Reshape(_)]))
    {
        judgement = send_as(&*made, &events, Shape::Safe).await;
    }
    let verdict = match judgement {
        Judgement::Each(verdicts) | Judgement::Strained(verdicts) => verdicts.into_iter().next(),
        Judgement::Unavailable { why, .. } => return Finding::failed(format!("not sent: {why}")),
        Judgement::Denied(why) => return Finding::failed(format!("not let in: {why}")),
        Judgement::Refused(why) | Judgement::TooLarge(why) => {
            return Finding::failed(format!("refused: {why}"));
        }
    };
    match verdict {
        Some(Verdict::Delivered | Verdict::Duplicate) => {
            Finding::good(format!("delivered: look for the event {id} of source test.trailship"))
        }
        Some(Verdict::Pending(token)) => confirmed(&*made, token, &id, makers).await,
        Some(Verdict::Retry(why) | Verdict::HungUp(why)) => {
            Finding::failed(format!("not taken, to be sent again later: {why}"))
        }
        Some(Verdict::Reshape(why) | Verdict::Refused { why, .. }) => {
            Finding::failed(format!("refused: {why}"))
        }
        Some(Verdict::Denied(why)) => Finding::failed(format!("not let in: {why}")),
        None => Finding::failed("the answer says nothing of it"),
    }
}

async fn send_as(sink: &dyn Sink, events: &Arc<[Event]>, shape: Shape) -> Judgement {
    match sink.encode(events, shape).await {
        Ok(encoded) => sink.send(events, &encoded, &Attempt { shape, ..Attempt::default() }).await,
        Err(why) => Judgement::Refused(why),
    }
}

/// Waits for the confirmation of what was accepted.
async fn confirmed(sink: &dyn Sink, token: Token, id: &str, makers: &Makers) -> Finding {
    let until = makers.clock.monotonic() + CONFIRMED_WITHIN;
    let tokens = [token];
    let mut last = String::new();
    while makers.clock.monotonic() < until {
        match sink.confirm(&tokens).await {
            Ok(stored) if stored.first() == Some(&true) => {
                let text = format!(
                    "stored, as the destination confirms: look for the event {id} of source test.trailship"
                );
                return Finding::good(text);
            }
            Ok(_) => last.clear(),
            Err(why) => last = format!(" ({why})"),
        }
        makers.clock.sleep(ASKED_EVERY).await;
    }
    let seconds = CONFIRMED_WITHIN.as_secs();
    Finding::warning(format!("accepted, but not confirmed within {seconds} s{last}: the event is {id}"))
}

/// A random id that looks like CloudTrail's. <https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-4>
fn event_id(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(3 << 62) | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// An event in which everything says what it is.
fn event(id: &str, now: SystemTime) -> Option<Event> {
    let time = rfc3339(now);
    let seconds = format!("{}Z", time.get(..19)?);
    let record = json!({
        "eventVersion": "1.11",
        "userIdentity": { "type": "AWSService", "invokedBy": "test.trailship" },
        "eventTime": seconds,
        "eventSource": "test.trailship",
        "eventName": "TrailshipTestEvent",
        "awsRegion": "none",
        "sourceIPAddress": "test.trailship",
        "userAgent": concat!("trailship/", env!("CARGO_PKG_VERSION")),
        "requestParameters": {
            "note": "Sent by `trailship check --send-test-event`. Nothing happened in any account."
        },
        "responseElements": null,
        "eventID": id,
        "readOnly": true,
        "eventType": "AwsServiceEvent",
        "managementEvent": true,
        "recipientAccountId": "000000000000",
        "eventCategory": "Management",
    });
    let file = LogFile {
        bucket: String::new(),
        key: format!("trailship-check/{id}"),
        version_id: None,
        etag: None,
        via: Via::Ship,
        read_at: time,
        labels: Vec::new(),
        key_minute: None,
    };
    let mut chunks = Vec::new();
    let mut reader = LogFileReader::new(Limits::default());
    reader.push(format!("{{\"Records\":[{record}]}}").as_bytes(), &mut chunks).ok()?;
    reader.finish(&mut chunks).ok()?;
    let made = ParcelMaker::new(Arc::new(file), Arc::default()).make(chunks.into_iter().next()?);
    Event::new(&Arc::new(made.parcel), 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cloudtrail::Field;

    use super::*;

    #[test]
    fn the_event_says_in_every_field_that_it_is_a_test() {
        let id = event_id(u64::MAX, u64::MAX);
        assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let event = event(&id, SystemTime::UNIX_EPOCH + Duration::from_secs(1_714_521_600)).unwrap();
        assert_eq!(event.text(Field::EventSource).unwrap(), "test.trailship");
        assert_eq!(event.text(Field::EventTime).unwrap(), "2024-05-01T00:00:00Z");
        assert_eq!(event.document_id(), id);
        assert!(event.time().is_some());
        let additions = String::from_utf8(event.additions().unwrap().to_vec()).unwrap();
        assert!(additions.contains("\"class\":\"aws_service\""), "{additions}");
    }
}
