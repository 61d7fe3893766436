//! No answer of a destination makes its reader panic; every event has one verdict or none has; what cannot be understood
//! is never a success; and no secret of the request gets into what is said of it.
//!
//! The first three bytes of the input choose the destination, the status and the number of events. The rest is the answer;
//! `{{secret}}` in it stands for the sink's secret.
#![no_main]

#[path = "../support/world.rs"]
mod world;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sinks::destinations::{Built, Carrier, CommonSettings, build};
use sinks::{Answer, Attempt, Event, HttpSink, Judgement, Shape, Sink, Token, Verdict};
use world::{SECRET, answer_of, events, finished, ports, settings};

/// Destinations that speak HTTP: what is exchanged is one answer.
const HTTP_TYPES: [&str; 6] = ["elasticsearch", "splunk_hec", "loggly", "sumo_logic", "http", "logstash_http"];
/// Those with a protocol of their own. (Receivers of syslog say nothing.)
const OWN_TYPES: [&str; 2] = ["logstash", "alert_logic_ingest"];
const STATUSES: [u16; 16] =
    [200, 200, 200, 200, 201, 207, 302, 400, 401, 403, 404, 409, 413, 429, 500, 503];

fuzz_target!(|input: &[u8]| {
    let &[which, status, count, ref body @ ..] = input else { return };
    let types = HTTP_TYPES.len() + OWN_TYPES.len();
    let which = usize::from(which) % types;
    let status = STATUSES[usize::from(status) % STATUSES.len()];
    let events = events(usize::from(count % 4) + 1);
    let common = CommonSettings { name: "fuzz".to_owned(), required: true, ..CommonSettings::default() };
    match HTTP_TYPES.get(which) {
        Some(name) => {
            let built = build(name, settings(name, count), &common).expect("the settings are good");
            judge(name, &built, &events, &answer_of(status, body));
        }
        None => {
            let name = OWN_TYPES[which - HTTP_TYPES.len()];
            let built = build(name, settings(name, count), &common).expect("the settings are good");
            exchange(name, built, &events, status, body);
        }
    }
});

fn judge(name: &str, built: &Built, events: &Arc<[Event]>, answer: &Answer) {
    let sink = built.http_sink().expect("it speaks HTTP");
    let attempt = Attempt::default();
    let judgement = sink.judge(events, &attempt, answer);
    check(&judgement, events.len());
    let accepted = accepted(&judgement);
    // Splunk stores the events before one that it refuses by its number.
    let of_its_own = matches!((name, answer.status), ("http", 409) | ("splunk_hec", 400));
    let is_success = (200..300).contains(&answer.status) || of_its_own;
    assert!(is_success || accepted == 0, "{name} {judgement:?}");
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
    if matches!(name, "elasticsearch" | "splunk_hec" | "loggly") {
        assert!(is_json || accepted == 0, "{name} {judgement:?}");
    }
    confirm(&*sink, &judgement, answer, is_json);
    if let Some(probe) = &built.probe {
        let steps = probe.steps().len();
        let read = (0..=steps).map(|step| format!("{:?}", probe.read(step, answer)));
        let applied = match probe.apply(&vec![Some(answer.clone()); steps]) {
            Ok(steps) => format!("{steps:?}"),
            Err(why) => why,
        };
        for said in read.chain([applied]) {
            assert!(!said.contains(SECRET), "{said}");
        }
    }
}

/// Asks whether what was accepted is stored, and reads the same answer to that.
fn confirm(sink: &dyn HttpSink, judgement: &Judgement, answer: &Answer, is_json: bool) {
    let mut tokens = vec![Token { channel: "c".to_owned(), id: 1 }, Token { channel: "c".to_owned(), id: u64::MAX }];
    if let Judgement::Each(verdicts) | Judgement::Strained(verdicts) = judgement {
        let pending = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Pending(token) => Some(token.clone()),
            _ => None,
        });
        tokens.extend(pending);
    }
    if sink.confirm(&tokens).is_none() {
        return;
    }
    match sink.confirmed(&tokens, answer) {
        Ok(confirmed) => {
            assert_eq!(confirmed.len(), tokens.len());
            assert!((is_json && answer.status < 300) || confirmed.iter().all(|stored| !stored), "{confirmed:?}");
        }
        Err(why) => assert!(!why.to_string().contains(SECRET), "{why}"),
    }
}

fn exchange(name: &str, built: Built, events: &Arc<[Event]>, status: u16, body: &[u8]) {
    let Carrier::Own(assemble) = built.carrier else { panic!("{name} has a protocol of its own") };
    let sink: Arc<dyn Sink> = assemble(&ports(status, body)).expect("the settings are good");
    let encoded = finished(sink.encode(events, Shape::Normal)).expect("good events can be encoded");
    let judgement = finished(sink.send(events, &encoded, &Attempt::default()));
    check(&judgement, events.len());
    let accepted = accepted(&judgement);
    match name {
        // Each acknowledgement is a frame that begins so.
        "logstash" => assert!(accepted == 0 || body.windows(2).any(|pair| pair == b"2A"), "{judgement:?}"),
        "alert_logic_ingest" => assert!(accepted == 0 || (200..300).contains(&status), "{judgement:?}"),
        _ => {}
    }
    for (_, finding) in finished(sink.check()) {
        assert!(!finding.sentence.contains(SECRET), "{finding:?}");
    }
}

/// Holds a judgement to what is promised of every one.
fn check(judgement: &Judgement, count: usize) {
    let shown = format!("{judgement:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    let reasons: Vec<&sinks::Reason> = match judgement {
        Judgement::Each(verdicts) | Judgement::Strained(verdicts) => {
            assert_eq!(verdicts.len(), count, "{judgement:?}");
            verdicts
                .iter()
                .filter_map(|verdict| match verdict {
                    Verdict::Retry(why) | Verdict::HungUp(why) | Verdict::Reshape(why) | Verdict::Denied(why) => Some(why),
                    Verdict::Refused { why, .. } => Some(why),
                    Verdict::Delivered | Verdict::Duplicate | Verdict::Pending(_) => None,
                })
                .collect()
        }
        Judgement::Unavailable { why, .. }
        | Judgement::Denied(why)
        | Judgement::Refused(why)
        | Judgement::TooLarge(why) => vec![why],
    };
    for why in reasons {
        assert!(why.text.len() <= 1200, "{}", why.text.len());
        assert!(!why.text.chars().any(char::is_control), "{:?}", why.text);
    }
}

fn accepted(judgement: &Judgement) -> usize {
    let (Judgement::Each(verdicts) | Judgement::Strained(verdicts)) = judgement else { return 0 };
    let is_good =
        |verdict: &&Verdict| matches!(verdict, Verdict::Delivered | Verdict::Duplicate | Verdict::Pending(_));
    verdicts.iter().filter(is_good).count()
}
