//! The reader of log files agrees with serde_json: on what is valid, on every event's bytes, on every field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/oracle.rs"]
mod oracle;

use cloudtrail::{Chunk, Limits, LogFileEnd, LogFileReader, ReadError};
use oracle::{Verdict, check_fields, judge};
use proptest::prelude::*;

/// Small chunks, so that every event meets the end of a buffer.
fn small(chunk_bytes: usize) -> Limits {
    Limits { chunk_bytes, ..Limits::default() }
}

fn read(input: &[u8], limits: Limits, pieces: &[usize]) -> (Vec<Chunk>, Result<LogFileEnd, ReadError>) {
    let mut reader = LogFileReader::new(limits);
    let mut chunks = Vec::new();
    let mut rest = input;
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*piece).clamp(1, rest.len()));
        if let Err(error) = reader.push(now, &mut chunks) {
            return (chunks, Err(error));
        }
        rest = later;
    }
    let end = reader.finish(&mut chunks);
    (chunks, end)
}

fn agree(input: &[u8], limits: Limits, pieces: &[usize]) {
    let (chunks, end) = read(input, limits, pieces);
    let events: Vec<_> = chunks.iter().flat_map(Chunk::events).collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.index(), index as u64);
        check_fields(event);
    }
    let context = || format!("{end:?} for {}", String::from_utf8_lossy(input));
    match judge(input) {
        Verdict::Events(expected) => {
            assert!(end.is_ok(), "{}", context());
            let bytes: Vec<_> = events.iter().map(|event| String::from_utf8_lossy(event.bytes())).collect();
            assert_eq!(bytes, expected, "{}", context());
        }
        Verdict::Invalid => assert!(end.is_err(), "{}", context()),
        Verdict::NoOpinion => {}
    }
}

/// Whitespace, mostly none.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}", 1 => Just("\r\n  ".to_owned())]
}

/// A string as JSON text, with every kind of escape.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-zA-Z0-9:/._ {}\\[\\],-]{0,12}",
        1 => "[^\"\\\\\\x00-\\x1f]{0,6}",
        1 => prop::sample::select(vec!["\\\"", "\\\\", "\\/", "\\n", "\\u0041", "\\u202F", "\\ud83d\\ude00", "\\\\\\\""]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => string(),
        2 => Just("null".to_owned()),
        1 => prop::sample::select(vec!["true", "false", "0", "-0", "12", "-7.25", "1.688560107857E9", "1e-7", "9007199254740993", "\"\\ud800\""]).prop_map(str::to_owned),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "eventVersion", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent", "errorCode",
            "errorMessage", "eventID", "eventId", "requestID", "eventType", "eventCategory", "recipientAccountId", "accountId",
            "readOnly", "managementEvent", "sharedEventID", "vpcEndpointId", "sessionCredentialFromConsole", "timeWindow",
            "windowStart", "userIdentity", "type", "principalId", "arn", "accessKeyId", "userName", "invokedBy", "sessionContext",
            "sessionIssuer", "ec2RoleDelivery", "inScopeOf", "invokedByDelegate", "onBehalfOf", "userId", "requestParameters",
            "responseElements", "trailship", "\\u0065ventID", "user\\u0049dentity", "",
        ]).prop_map(|key| format!("\"{key}\"")),
        1 => "[a-zA-Z._$-]{1,10}".prop_map(|key| format!("\"{key}\"")),
    ]
}

fn object(value: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let member = (space(), key(), space(), space(), value, space());
    (prop::collection::vec(member, 0..6), space()).prop_map(|(members, empty)| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"))
            .collect();
        if members.is_empty() { format!("{{{empty}}}") } else { format!("{{{}}}", members.join(",")) }
    })
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            4 => object(inner.clone().boxed()),
            1 => prop::collection::vec((space(), inner, space()), 0..4).prop_map(|elements| {
                let elements: Vec<_> = elements.into_iter().map(|(a, value, b)| format!("{a}{value}{b}")).collect();
                format!("[{}]", elements.join(","))
            }),
        ]
    })
}

fn event() -> impl Strategy<Value = String> {
    object(value().boxed())
}

/// A document in one of the envelopes, or in none.
fn document() -> impl Strategy<Value = String> {
    let events = prop::collection::vec((space(), event(), space()), 0..5)
        .prop_map(|events| {
            events.into_iter().map(|(a, event, b)| format!("{a}{event}{b}")).collect::<Vec<_>>()
        })
        .boxed();
    prop_oneof![
        6 => (events.clone(), value(), space(), any::<bool>()).prop_map(|(events, other, space, first)| {
            let records = format!("\"Records\"{space}:{space}[{}]", events.join(","));
            if first { format!("{{{records}}}") } else { format!("{{\"other\":{other},{space}{records}{space},\"more\":{other}}}") }
        }),
        2 => events.clone().prop_map(|events| format!("[{}]", events.join(","))),
        2 => event(),
        1 => value(),
        2 => (events, any::<bool>()).prop_map(|(events, control)| {
            let kind = if control { "CONTROL_MESSAGE" } else { "DATA_MESSAGE" };
            let events: Vec<_> = events.iter().map(|event| {
                format!("{{\"id\":\"1\",\"timestamp\":1,\"message\":{}}}", serde_json::to_string(event).unwrap())
            }).collect();
            format!("{{\"messageType\":\"{kind}\",\"logEvents\":[{}]}}", events.join(","))
        }),
    ]
}

fn file() -> impl Strategy<Value = String> {
    prop::collection::vec((space(), document(), space()), 1..4).prop_map(|documents| {
        documents.into_iter().map(|(a, document, b)| format!("{a}{document}{b}")).collect()
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(1..200usize, 1..5), Just(vec![usize::MAX])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn files_read_as_serde_json_reads_them(file in file(), chunk_bytes in 64..600usize, pieces in pieces()) {
        agree(file.as_bytes(), small(chunk_bytes), &pieces);
    }

    #[test]
    fn damaged_files_are_judged_as_serde_json_judges_them(
        file in file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\{}[]:, \n\r\tu0e-.\x00\xc3\x28nt".to_vec()), 0..4u8), 1..4),
        chunk_bytes in 64..600usize,
        pieces in pieces(),
    ) {
        let mut bytes = file.into_bytes();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => { bytes.remove(at); }
                _ => bytes.truncate(at.max(1)),
            }
        }
        // Gzip is another matter.
        prop_assume!(!bytes.starts_with(&[0x1f, 0x8b]));
        agree(&bytes, small(chunk_bytes), &pieces);
    }

    #[test]
    fn the_size_of_pieces_and_chunks_changes_nothing(file in file(), chunk_bytes in 64..600usize, pieces in pieces()) {
        let whole = read(file.as_bytes(), Limits::default(), &[usize::MAX]);
        let parts = read(file.as_bytes(), small(chunk_bytes), &pieces);
        prop_assert_eq!(&whole.1, &parts.1);
        let events = |chunks: &[Chunk]| -> Vec<Vec<u8>> {
            chunks.iter().flat_map(Chunk::events).map(|event| event.bytes().to_vec()).collect()
        };
        prop_assert_eq!(events(&whole.0), events(&parts.0));
    }
}
