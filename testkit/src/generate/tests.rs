//! What generated files are like, held against what was measured of real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::calendar::Calendar;

/// The events of a well-formed file, as the bytes they are.
fn records(json: &[u8]) -> Vec<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Frame {
        #[serde(rename = "Records")]
        records: Vec<Box<RawValue>>,
    }
    serde_json::from_slice::<Frame>(json).unwrap().records
}

fn gunzip(gz: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(gz).take(64 << 20).read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn a_seed_gives_the_same_files_and_another_seed_gives_others() {
    let make = |seed| {
        let mut generator = Generator::new(seed);
        (0..3).map(|_| generator.log_file(5)).map(|file| (file.key, file.gz)).collect::<Vec<_>>()
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
    let mut short = Generator::new(1);
    short.log_file(1);
    assert_eq!(short.log_file(5).key, make(1)[1].0, "a file does not depend on those before it");
}

#[test]
fn issued_events_are_those_of_the_file() {
    let file = Generator::new(3).log_file(200);
    assert_eq!(gunzip(&file.gz).unwrap(), file.json);
    let records = records(&file.json);
    assert_eq!(records.len(), 200);
    for (at, (record, issued)) in records.iter().zip(&file.issued).enumerate() {
        let value: Value = serde_json::from_str(record.get()).unwrap();
        assert_eq!(issued.index as usize, at);
        assert_eq!(value["eventID"].as_str(), issued.event_id.as_deref());
        assert_eq!(issued.sha256, <[u8; 32]>::from(Sha256::digest(record.get())));
    }
}

#[test]
fn ids_never_repeat() {
    let mut generator = Generator::new(9);
    let mut ids = HashSet::new();
    let mut keys = HashSet::new();
    for _ in 0..300 {
        let file = generator.gzip_level_file(60);
        assert!(keys.insert(file.key));
        for issued in file.issued {
            assert!(ids.insert(issued.event_id.unwrap()));
        }
    }
    assert_eq!(ids.len(), 300 * 60);
}

impl Generator {
    /// A file at the fastest level.
    fn gzip_level_file(&mut self, events: usize) -> LogFileSample {
        self.gzip_level = 1;
        self.log_file(events)
    }
}

#[test]
fn keys_are_those_of_aws() {
    let file = Generator::new(1).organization("o-exampleorg").prefix("trail/").log_file(1);
    let parts: Vec<&str> = file.key.split('/').collect();
    assert_eq!(parts[..3], ["trail", "AWSLogs", "o-exampleorg"]);
    assert_eq!((parts[3], parts[4], parts[5]), (file.account, "CloudTrail", file.region));
    assert_eq!(parts[6..9], ["2024", "05", "01"]);
    let name: Vec<&str> = parts[9].trim_end_matches(".json.gz").split('_').collect();
    assert_eq!(name[..3], [file.account, "CloudTrail", file.region]);
    assert!(
        name[3].starts_with("20240501T12") && name[3].ends_with('Z') && name[3].len() == 14,
        "{}",
        file.key
    );
    assert!(name[4].len() == 16 && name[4].chars().all(|c| c.is_ascii_alphanumeric()), "{}", file.key);
    let digest = Generator::new(1).odd_file(Oddity::Digest).0.key;
    assert!(
        digest.contains("/CloudTrail-Digest/") && digest.contains("_organization_us-east-1_20240501T12"),
        "{digest}"
    );
}

#[test]
fn sizes_and_density_are_those_of_real_files() {
    let mut generator = Generator::new(5);
    let mut sizes = Vec::new();
    let (mut json, mut gz) = (0, 0);
    for _ in 0..60 {
        let file = generator.next_file();
        json += file.json.len();
        gz += file.gz.len();
        sizes.extend(records(&file.json).iter().map(|record| record.get().len()));
    }
    sizes.sort_unstable();
    let at = |share: f64| sizes[(sizes.len() as f64 * share) as usize];
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    let ratio = f64::from(json as u32) / f64::from(gz as u32);
    let seen = format!(
        "{} events, min {} p50 {} mean {mean:.0} p90 {} p99 {} max {} ratio {ratio:.1}",
        sizes.len(),
        sizes[0],
        at(0.5),
        at(0.9),
        at(0.99),
        sizes[sizes.len() - 1]
    );
    assert!((500..800).contains(&sizes[0]), "{seen}");
    assert!((1_100..1_400).contains(&at(0.5)), "{seen}");
    assert!((1_180.0..1_400.0).contains(&mean), "{seen}");
    assert!((1_400..2_000).contains(&at(0.9)), "{seen}");
    assert!((3_500..5_800).contains(&sizes[sizes.len() - 1]), "{seen}");
    assert!((6.0..9.5).contains(&ratio), "{seen}");
}

#[test]
fn files_have_as_many_events_as_real_ones() {
    let generator = Generator::new(5);
    let mut sizes: Vec<usize> = (0..2_000).map(|file| generator.draw_file_size(file)).collect();
    sizes.sort_unstable();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((17..=23).contains(&sizes[1_000]), "median {}", sizes[1_000]);
    assert!((40..=60).contains(&mean), "mean {mean}");
    assert_eq!((sizes[0], sizes[1_999]), (1, 400));
}

#[test]
fn every_place_of_every_text_is_known() {
    let calls = [
        catalog::GENERAL,
        catalog::SAML,
        catalog::WEB_IDENTITY,
        catalog::FOREIGN,
        catalog::SERVICE_EVENTS,
        catalog::SIGN_IN,
    ];
    let texts = calls
        .iter()
        .copied()
        .flatten()
        .flat_map(|call| [call.request, call.response, call.extra, call.resources]);
    let mut places = 0;
    for text in texts.chain(actors::ACTORS.iter().map(|actor| actor.identity)) {
        assert_eq!(text.matches('~').count() % 2, 0, "{text}");
        for name in text.split('~').skip(1).step_by(2) {
            assert!(template::place(name).is_some(), "{name} in {text}");
            places += 1;
        }
    }
    assert!(places > 300, "{places}");
}

#[test]
fn the_shares_of_all_actors_make_a_thousand() {
    assert_eq!(actors::ACTORS.iter().map(|actor| actor.weight).sum::<usize>(), 1000);
}

#[test]
fn actors_calls_and_errors_have_their_shares() {
    let mut generator = Generator::new(7);
    let mut actors: BTreeMap<&str, usize> = BTreeMap::new();
    let mut calls = BTreeSet::new();
    let mut sources = BTreeSet::new();
    let (mut invoked, mut errors, mut sign_ins, mut tokens) = (0, 0, 0, 0);
    for _ in 0..100 {
        let file = generator.gzip_level_file(100);
        for (record, issued) in records(&file.json).iter().zip(&file.issued) {
            let value: Value = serde_json::from_str(record.get()).unwrap();
            *actors.entry(issued.actor).or_default() += 1;
            let source = value["eventSource"].as_str().unwrap().to_owned();
            calls.insert((source.clone(), value["eventName"].as_str().unwrap().to_owned()));
            sources.insert(source);
            invoked += usize::from(value["userIdentity"].get("invokedBy").is_some());
            errors += usize::from(value.get("errorCode").is_some());
            sign_ins += usize::from(value["eventType"] == "AwsConsoleSignIn");
            tokens += usize::from(record.get().contains("sessionToken"));
        }
    }
    assert!((1_050..1_350).contains(&invoked), "invokedBy {invoked}");
    assert!((900..1_150).contains(&errors), "errors {errors}");
    assert!((20..120).contains(&sign_ins), "sign-ins {sign_ins}");
    assert!((250..600).contains(&tokens), "tokens {tokens}");
    assert!(calls.len() > 70 && sources.len() >= 29, "{} calls of {} sources", calls.len(), sources.len());
    let kinds = [
        "anonymous",
        "cross_account",
        "delegate",
        "directory_user",
        "federated_user",
        "iam_user",
        "identity_center_user",
        "on_behalf_of",
        "role_session",
        "root",
        "saml_user",
        "service",
        "service_event",
        "service_linked_role",
        "sso_session",
        "unknown",
        "web_identity_user",
        "workload",
    ];
    assert_eq!(actors.keys().copied().collect::<Vec<_>>(), kinds);
}

#[test]
fn identities_say_what_their_kind_says() {
    let file = Generator::new(11).gzip_level_file(5_000);
    for (record, issued) in records(&file.json).iter().zip(&file.issued) {
        let value: Value = serde_json::from_str(record.get()).unwrap();
        let identity = &value["userIdentity"];
        let kind = identity["type"].as_str();
        let invoked = identity["invokedBy"].as_str().filter(|by| *by != "signin.amazonaws.com");
        let issuer = identity["sessionContext"]["sessionIssuer"]["arn"].as_str().unwrap_or_default();
        let linked = issuer.contains(":role/aws-service-role/");
        let role = kind == Some("AssumedRole");
        let sso = issuer.contains("AWSReservedSSO_");
        let instance = identity["principalId"].as_str().is_some_and(|id| id.contains(":i-"));
        let workload = instance || identity.get("inScopeOf").is_some();
        let holds = match issued.actor {
            "service_event" => kind.is_none() && value["eventType"] == "AwsServiceEvent",
            "service" => kind == Some("AWSService"),
            "service_linked_role" => linked,
            "on_behalf_of" => invoked.is_some() && !linked && kind != Some("AWSService"),
            "delegate" => identity["invokedByDelegate"]["accountId"].is_string(),
            "sso_session" => role && sso && invoked.is_none(),
            "workload" => role && workload && !sso && invoked.is_none(),
            "role_session" => role && !workload && !sso && !linked && invoked.is_none(),
            "anonymous" => identity["accountId"] == "ANONYMOUS_PRINCIPAL",
            "cross_account" => kind == Some("AWSAccount") && value["sharedEventID"].is_string(),
            "root" => kind == Some("Root"),
            "iam_user" => kind == Some("IAMUser") && invoked.is_none(),
            "unknown" => kind == Some("Unknown"),
            "saml_user" => kind == Some("SAMLUser"),
            "web_identity_user" => kind == Some("WebIdentityUser"),
            "federated_user" => kind == Some("FederatedUser"),
            "identity_center_user" => kind == Some("IdentityCenterUser"),
            "directory_user" => kind == Some("Directory"),
            _ => false,
        };
        assert!(holds, "{}: {}", issued.actor, record.get());
        let delivered = Calendar::new(file.delivered_s).iso8601();
        assert!(value["eventTime"].as_str().unwrap() < delivered.as_str());
    }
}

#[test]
fn a_huge_file_is_streamed_and_well_formed() {
    let mut out = Vec::new();
    let mut issued = Vec::new();
    let huge = Generator::new(2).write_huge(300_000, &mut out, |one| issued.push(one)).unwrap();
    assert_eq!((huge.bytes, huge.events), (out.len() as u64, issued.len() as u64));
    assert!(huge.bytes >= 300_000 && huge.bytes < 310_000);
    let records = records(&out);
    assert_eq!(records.len(), issued.len());
    assert!(records.iter().zip(&issued).all(|(r, i)| i.sha256 == <[u8; 32]>::from(Sha256::digest(r.get()))));
}

#[test]
fn every_oddity_is_what_it_says() {
    let mut generator = Generator::new(4);
    for oddity in Oddity::ALL {
        let (file, reading) = generator.odd_file(oddity);
        let inflated = gunzip(&file.gz);
        match oddity {
            Oddity::TruncatedGzip
            | Oddity::CorruptGzip
            | Oddity::TrailingGarbage
            | Oddity::PlainJson
            | Oddity::Empty => {
                assert!(inflated.is_err(), "{oddity:?}");
            }
            Oddity::Bomb => {
                let inflated = inflated.unwrap();
                assert!(
                    inflated.len() == 64 << 20 && file.gz.len() * 200 < inflated.len(),
                    "{}",
                    file.gz.len()
                );
            }
            _ => assert_eq!(inflated.unwrap(), file.json, "{oddity:?}"),
        }
        if reading == Reading::Whole {
            let objects: HashSet<[u8; 32]> =
                objects(&file.json).map(|one| Sha256::digest(spaced(one)).into()).collect();
            let there = file.issued.iter().filter(|issued| objects.contains(&issued.sha256)).count();
            assert_eq!(there, file.issued.len(), "{oddity:?}");
        }
        let none = reading == Reading::Foreign || matches!(oddity, Oddity::EmptyRecords | Oddity::Bomb);
        assert_eq!(file.issued.is_empty(), none, "{oddity:?}");
    }
}

/// Every object of a text, by its braces outside of strings; some of these texts are no JSON for a strict reader.
fn objects(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut open, mut found, mut quoted, mut escaped) = (Vec::new(), Vec::new(), false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => open.push(at),
            b'}' if !quoted => found.extend(open.pop().map(|first| &json[first..=at])),
            _ => {}
        }
    }
    found.into_iter()
}

/// Line breaks between tokens are delivered as spaces.
fn spaced(record: &[u8]) -> Vec<u8> {
    record.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect()
}

#[test]
fn a_large_event_has_exactly_the_largest_size() {
    let (file, _) = Generator::new(4).odd_file(Oddity::LargeEvent);
    let sizes: Vec<usize> = records(&file.json).iter().map(|record| record.get().len()).collect();
    assert_eq!(sizes[2], 256 * 1024);
}
