//! Log files of every envelope and compression; whole, cut at every byte, damaged, and made to exhaust memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::event::{Field, SpanKind};

const TWO: &str = r#"{"Records":[{"eventID":"a","n":1.68E9},{"eventID":"b","big":9007199254740993}]}"#;

struct Read {
    chunks: Vec<Chunk>,
    events: Vec<String>,
    end: Result<LogFileEnd, ReadError>,
    memory_bytes_max: usize,
}

impl Read {
    fn content(&self) -> ContentKind {
        self.end.clone().unwrap().content
    }

    fn ids(&self) -> Vec<String> {
        let ids = self.chunks.iter().flat_map(Chunk::events);
        ids.map(|event| event.text(Field::EventId).unwrap_or_default().into_owned()).collect()
    }
}

fn read_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Read {
    let mut reader = LogFileReader::new(limits);
    let mut chunks = Vec::new();
    let mut memory_bytes_max = 0;
    let mut pushed = Ok(());
    for piece in pieces {
        pushed = reader.push(piece, &mut chunks);
        memory_bytes_max = memory_bytes_max.max(reader.memory_bytes());
        if pushed.is_err() {
            break;
        }
    }
    let end = pushed.and_then(|()| reader.finish(&mut chunks));
    let events: Vec<_> = chunks
        .iter()
        .flat_map(Chunk::events)
        .map(|event| String::from_utf8(event.bytes().to_vec()).unwrap())
        .collect();
    assert_eq!(reader.events(), events.len() as u64);
    for (index, event) in chunks.iter().flat_map(Chunk::events).enumerate() {
        assert_eq!(event.index(), index as u64);
    }
    if let Ok(end) = &end {
        assert_eq!((end.events, end.inflated_bytes), (events.len() as u64, reader.inflated_bytes()));
    }
    Read { chunks, events, end, memory_bytes_max }
}

fn read_with(input: &[u8], limits: Limits) -> Read {
    read_pieces(std::iter::once(input), limits)
}

fn read(input: impl AsRef<[u8]>) -> Read {
    read_with(input.as_ref(), Limits::default())
}

fn small(chunk_bytes: usize) -> Limits {
    Limits { chunk_bytes, ..Limits::default() }
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn file_of(count: usize) -> String {
    let events: Vec<_> = (0..count)
        .map(|n| format!(r#"{{"eventID":"{n}","userAgent":"{}"}}"#, "é\\n".repeat(n % 50)))
        .collect();
    format!("{{\"Records\":[{}]}}", events.join(","))
}

#[track_caller]
fn check(input: &str, content: ContentKind, ids: &[&str]) {
    for limits in [Limits::default(), small(64)] {
        let read = read_with(input.as_bytes(), limits);
        assert_eq!(read.end.clone().map(|end| end.content), Ok(content), "{input}");
        assert_eq!(read.ids(), ids, "{input}");
    }
}

#[track_caller]
fn fails(input: impl AsRef<[u8]>, error: ReadError) {
    assert_eq!(read(input.as_ref()).end, Err(error), "{}", String::from_utf8_lossy(input.as_ref()));
}

// Envelopes

#[test]
fn events_are_the_very_bytes_that_stand_in_the_file() {
    let read = read(TWO);
    assert_eq!(read.events, [r#"{"eventID":"a","n":1.68E9}"#, r#"{"eventID":"b","big":9007199254740993}"#]);
    let chunk = &read.chunks[0];
    assert_eq!(chunk.offset() as usize, TWO.find(r#"{"eventID":"a""#).unwrap());
    let end = LogFileEnd {
        events: 2,
        inflated_bytes: TWO.len() as u64,
        content: ContentKind::Records,
        documents_without_events: 0,
    };
    assert_eq!(read.end, Ok(end));
}

#[test]
fn records_may_stand_anywhere_among_other_members() {
    check(
        r#"{"a":{"Records":[{"eventID":"no"}]},"b":[1,"]}"],"Records":[{"eventID":"x"}],"eventVersion":"1"}"#,
        ContentKind::Records,
        &["x"],
    );
    check(r#"{"\u0052ecords":[{"eventID":"x"}]}"#, ContentKind::Records, &["x"]);
    check(r#"{"Records":[{"eventID":"x"}],"Records":[{"eventID":"y"}]}"#, ContentKind::Records, &["x", "y"]);
    check(r#"{"Records":[]}"#, ContentKind::Records, &[]);
    check(
        " {\t\"Records\" : [ { \"eventID\" : \"x\" } , {\"eventID\":\"y\"}\r\n] } \n",
        ContentKind::Records,
        &["x", "y"],
    );
}

#[test]
fn arrays_and_sequences_of_events_are_read() {
    check(r#"[{"eventId":"x"},{"eventId":"y"}]"#, ContentKind::Array, &["x", "y"]);
    check("[ ]", ContentKind::Array, &[]);
    check(
        "{\"userIdentity\":{\"type\":\"Root\"},\"eventVersion\":\"1.08\",\"eventID\":\"x\"}\n{\"eventID\":\"y\"}\n",
        ContentKind::Events,
        &["x", "y"],
    );
    check(r#"{"eventID":"x"}{"eventID":"y"}"#, ContentKind::Events, &["x", "y"]);
    check(
        r#"{"Records":[{"eventID":"x"}]}{"Records":[{"eventID":"y"}]}[{"eventID":"z"}]"#,
        ContentKind::Records,
        &["x", "y", "z"],
    );
}

#[test]
fn documents_without_events_are_told_apart() {
    check(
        r#"{"awsAccountId":"1","digestS3Object":"k","logFiles":[]}"#,
        ContentKind::NoRecords(DocumentKind::Digest),
        &[],
    );
    check(
        r#"{"fileVersion":"1.0","configSnapshotId":"i","configurationItems":[{"eventID":"no"}]}"#,
        ContentKind::NoRecords(DocumentKind::ConfigSnapshot),
        &[],
    );
    check(
        r#"{"fileVersion":"1.0","configurationItems":[]}"#,
        ContentKind::NoRecords(DocumentKind::ConfigHistory),
        &[],
    );
    check(r#"{"hello":"world"}"#, ContentKind::NoRecords(DocumentKind::Other), &[]);
    check("{}", ContentKind::NoRecords(DocumentKind::Other), &[]);
    for empty in ["", " \r\n\t ", "\u{feff}", "\u{feff} "] {
        check(empty, ContentKind::Empty, &[]);
    }
}

#[test]
fn a_document_without_events_among_others_is_counted() {
    let read = read(r#"{"x":1}{"Records":[{"eventID":"a"}]}{"y":2}"#);
    let end = read.end.unwrap();
    assert_eq!((end.content, end.events, end.documents_without_events), (ContentKind::Records, 1, 2));
}

#[test]
fn messages_of_cloudwatch_are_unescaped() {
    let event = r#"{"eventID":"x","userAgent":"q\"\\ \ud800 é \ud83d\ude00","eventName":"n"}"#;
    let message = |text: &str| serde_json::to_string(text).unwrap();
    let payload = |kind: &str, message: &str| {
        format!(
            r#"{{"messageType":"{kind}","owner":"1","logEvents":[{{"id":"1","timestamp":1,"message":{message}}},{{"message":{message},"id":"2"}}]}}"#
        )
    };
    for limits in [Limits::default(), small(64)] {
        let file = [payload("DATA_MESSAGE", &message(event)), payload("CONTROL_MESSAGE", "\"CWL CONTROL\"")]
            .concat();
        let read = read_with(file.as_bytes(), limits);
        assert_eq!(read.events, [event, event]);
        assert_eq!(read.content(), ContentKind::CloudWatch);
        let event = read.chunks[0].event(0).unwrap();
        assert_eq!(event.text(Field::UserAgent).unwrap(), "q\"\\ \u{fffd} é 😀");
        assert_eq!(event.text(Field::EventName).unwrap(), "n");
    }
    let spaced = read(payload("DATA_MESSAGE", &message(" {\r\n\"eventID\":\"x\"\n}\n")));
    assert_eq!(spaced.events, ["{  \"eventID\":\"x\" }"; 2]);
    assert_eq!(read(payload("DATA_MESSAGE", r#""{\"eventID\":\"\ud800\"}""#)).ids(), ["\u{fffd}"; 2]);
}

#[test]
fn messages_of_cloudwatch_have_to_be_events() {
    for message in
        ["7", "\"\"", "\"text\"", "\"[{}]\"", r#""{\"a\":1""#, r#""{} {}""#, r#""{\"a\":\"\n\"}""#, "null"]
    {
        let file = format!(
            r#"{{"messageType":"DATA_MESSAGE","logEvents":[{{"message":"{{}}"}},{{"message":{message}}}]}}"#
        );
        let read = read(&file);
        assert_eq!(read.events, ["{}"], "{file}");
        assert_eq!(read.end.unwrap_err().code(), "json", "{file}");
    }
    check(
        r#"{"messageType":"OTHER","logEvents":[{"message":"x"}]}"#,
        ContentKind::NoRecords(DocumentKind::Other),
        &[],
    );
}

// Fields

#[test]
fn every_field_is_noted() {
    let file = r#"{"Records":[{"eventVersion":"v","eventTime":"t","eventSource":"s","eventName":"n","awsRegion":"r","sourceIPAddress":"ip",
        "userAgent":"ua","errorCode":"ec","errorMessage":"em","eventID":"id","requestID":"rq","eventType":"ty","eventCategory":"ca",
        "recipientAccountId":"ra","accountId":"ac","readOnly":true,"managementEvent":false,"sharedEventID":"sh","vpcEndpointId":"vp",
        "sessionCredentialFromConsole":"true","timeWindow":{"windowStart":"ws"},"userIdentity":{"type":"it","principalId":"ip","arn":"ia",
        "accountId":"iacc","accessKeyId":"iak","userName":"iun","invokedBy":"ib","sessionContext":{"sessionIssuer":{"arn":"sa",
        "userName":"su","accountId":"sac"},"ec2RoleDelivery":"2.0"},"inScopeOf":{"a":1},"invokedByDelegate":{"b":2},
        "onBehalfOf":{"userId":"ob"}},"requestParameters":{"p":[]},"responseElements":"text","trailship":7}]}"#;
    let read = read(file);
    let event = read.chunks[0].event(0).unwrap();
    let text = |field| event.text(field).unwrap().into_owned();
    let texts = [
        (Field::EventVersion, "v"),
        (Field::EventTime, "t"),
        (Field::EventSource, "s"),
        (Field::EventName, "n"),
        (Field::AwsRegion, "r"),
        (Field::SourceIpAddress, "ip"),
        (Field::UserAgent, "ua"),
        (Field::ErrorCode, "ec"),
        (Field::ErrorMessage, "em"),
        (Field::EventId, "id"),
        (Field::RequestId, "rq"),
        (Field::EventType, "ty"),
        (Field::EventCategory, "ca"),
        (Field::RecipientAccountId, "ra"),
        (Field::AccountId, "ac"),
        (Field::ReadOnly, "true"),
        (Field::ManagementEvent, "false"),
        (Field::SharedEventId, "sh"),
        (Field::VpcEndpointId, "vp"),
        (Field::SessionCredentialFromConsole, "true"),
        (Field::WindowStart, "ws"),
        (Field::IdentityType, "it"),
        (Field::IdentityPrincipalId, "ip"),
        (Field::IdentityArn, "ia"),
        (Field::IdentityAccountId, "iacc"),
        (Field::IdentityAccessKeyId, "iak"),
        (Field::IdentityUserName, "iun"),
        (Field::IdentityInvokedBy, "ib"),
        (Field::IssuerArn, "sa"),
        (Field::IssuerUserName, "su"),
        (Field::IssuerAccountId, "sac"),
        (Field::Ec2RoleDelivery, "2.0"),
        (Field::InScopeOf, r#"{"a":1}"#),
        (Field::InvokedByDelegate, r#"{"b":2}"#),
        (Field::OnBehalfOfUserId, "ob"),
        (Field::RequestParameters, r#"{"p":[]}"#),
        (Field::ResponseElements, "text"),
        (Field::Trailship, "7"),
    ];
    for (field, expected) in texts {
        assert_eq!(text(field), expected, "{field:?}");
    }
    assert!(
        text(Field::UserIdentity).starts_with(r#"{"type":"it""#)
            && text(Field::UserIdentity).ends_with(r#"{"userId":"ob"}}"#)
    );
    assert_eq!(texts.len() + 1, Field::COUNT);
    assert_eq!(event.kind(Field::ReadOnly), SpanKind::Other);
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    let read = read(
        r#"[{"eventName":"a","eventName":"b","errorCode":"x","errorCode":null,
        "userIdentity":{"type":"Root","arn":"x","sessionContext":{"sessionIssuer":{"arn":"i"}}},
        "userIdentity":{"type":"IAMUser"},"eventID":"first","eventID":null,"eventId":"other"}]"#,
    );
    let event = read.chunks[0].event(0).unwrap();
    assert_eq!(event.text(Field::EventName).unwrap(), "b");
    assert!(!event.has(Field::ErrorCode));
    assert_eq!(event.text(Field::IdentityType).unwrap(), "IAMUser");
    assert!(!event.has(Field::IdentityArn) && !event.has(Field::IssuerArn));
    assert_eq!(event.text(Field::EventId).unwrap(), "other");
}

#[test]
fn an_event_id_goes_before_its_other_spelling() {
    for file in [r#"[{"eventID":"a","eventId":"b"}]"#, r#"[{"eventId":"b","eventID":"a"}]"#] {
        assert_eq!(read(file).ids(), ["a"]);
    }
}

#[test]
fn fields_of_the_wrong_type_are_noted_as_they_stand() {
    let read = read(
        r#"[{"userIdentity":"odd","requestParameters":"text","sessionCredentialFromConsole":true,"timeWindow":[1],"eventID":7}]"#,
    );
    let event = read.chunks[0].event(0).unwrap();
    assert_eq!(
        (event.kind(Field::UserIdentity), event.text(Field::UserIdentity).unwrap().as_ref()),
        (SpanKind::Plain, "odd")
    );
    assert_eq!((event.kind(Field::EventId), event.raw(Field::EventId)), (SpanKind::Other, Some(&b"7"[..])));
    assert_eq!(event.kind(Field::SessionCredentialFromConsole), SpanKind::Other);
    assert!(!event.has(Field::WindowStart));
}

#[test]
fn blank_text_is_not_filled_and_escapes_are_decoded() {
    let read = read(r#"[{"userAgent":" \t","eventName":"5:40\u202fPM","eventID":""}]"#);
    let event = read.chunks[0].event(0).unwrap();
    assert!(
        event.has(Field::UserAgent)
            && event.filled(Field::UserAgent).is_none()
            && event.filled(Field::EventId).is_none()
    );
    assert_eq!(event.filled(Field::EventName).unwrap(), "5:40\u{202f}PM");
    assert_eq!(
        (event.kind(Field::EventName), event.raw(Field::EventName)),
        (SpanKind::Escaped, Some(&br"5:40\u202fPM"[..]))
    );
}

#[test]
fn only_line_breaks_between_tokens_change() {
    let pretty = "{\r\n  \"Records\": [\r\n    {\r\n      \"eventID\": \"a\\r\\n\",\r\n\t\"x\": [\n1,\r2]\n    }\n  ]\n}\n";
    for limits in [Limits::default(), small(64)] {
        let read = read_with(pretty.as_bytes(), limits);
        assert_eq!(read.events, ["{        \"eventID\": \"a\\r\\n\",  \t\"x\": [ 1, 2]     }"]);
        assert_eq!(read.ids(), ["a\r\n"]);
    }
}

// Compression

#[test]
fn every_layer_of_compression_gives_the_same_events() {
    let file = file_of(40);
    let plain = read(&file);
    assert_eq!(plain.events.len(), 40);
    for object in [gzip(&file), gzip(gzip(&file))] {
        for piece in [1, 2, 3, 7, 1000, usize::MAX] {
            for limits in [Limits::default(), small(64), small(333)] {
                let read = read_pieces(object.chunks(piece), limits);
                assert_eq!((&read.events, &read.end), (&plain.events, &plain.end), "pieces of {piece}");
            }
        }
    }
    fails(gzip(gzip(gzip(&file))), ReadError::Json { offset: 0 });
}

#[test]
fn all_members_of_a_gzip_stream_are_read() {
    let file = file_of(30);
    let plain = read(&file);
    for cut in [0, 1, 12, file.find("é").unwrap() + 1, file.len() / 2, file.len()] {
        let (left, right) = file.as_bytes().split_at(cut);
        let object = [gzip(left), gzip(b""), gzip(right), vec![0; 9]].concat();
        for piece in [1, 5, usize::MAX] {
            let read = read_pieces(object.chunks(piece), small(64));
            assert_eq!((&read.events, &read.end), (&plain.events, &plain.end), "cut at {cut}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped_once() {
    let file = format!("\u{feff}{TWO}");
    assert_eq!(read(&file).ids(), ["a", "b"]);
    assert_eq!(read_pieces(gzip(&file).chunks(1), small(64)).ids(), ["a", "b"]);
    fails(format!("\u{feff}\u{feff}{TWO}"), ReadError::Json { offset: 3 });
    fails(format!("{TWO}\u{feff}{TWO}"), ReadError::Json { offset: TWO.len() as u64 });
}

#[test]
fn a_file_cut_at_any_byte_is_truncated_and_what_came_before_is_good() {
    let file = file_of(12);
    let whole = read(&file);
    for object in [
        file.as_bytes().to_vec(),
        gzip(&file),
        [gzip(&file[..50]), gzip(&file[50..])].concat(),
        gzip(gzip(&file)),
    ] {
        for cut in 1..object.len() {
            let read = read_with(&object[..cut], small(64));
            assert!(whole.events.starts_with(&read.events), "cut at {cut}");
            match read.end {
                Err(ReadError::Truncated { offset }) => assert_eq!(offset, cut as u64),
                // A single byte of the magic number is no gzip yet, and a member that ends is one that could be last.
                Err(ReadError::Json { offset: 0 }) => assert_eq!(cut, 1),
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn any_damage_to_the_checksum_or_the_length_is_noticed() {
    let object = gzip(TWO);
    for back in 1..=8 {
        let mut bad = object.clone();
        let at = bad.len() - back;
        bad[at] ^= 1;
        let read = read(&bad);
        assert_eq!(read.end.clone().unwrap_err().code(), "gzip", "byte -{back}");
        assert_eq!(read.ids(), ["a", "b"]);
    }
    let mut bad = object.clone();
    bad[2] = 9;
    assert_eq!(read(&bad).end.unwrap_err().code(), "gzip");
}

#[test]
fn nothing_but_zeros_and_members_may_follow_the_stream() {
    let object = gzip(TWO);
    let after = |tail: &[u8]| [object.as_slice(), tail].concat();
    assert_eq!(read(after(&[0; 600])).ids(), ["a", "b"]);
    let offset = object.len() as u64;
    for tail in [&b"x"[..], b"\n", b"{}"] {
        fails(after(tail), ReadError::TrailingGarbage { offset });
    }
    assert_eq!(read(after(b"\0\0x")).end.unwrap_err().code(), "trailing_garbage");
    assert_eq!(read(after(b"\0\x1f\x8b")).end.unwrap_err().code(), "trailing_garbage");
    assert_eq!(read(after(b"\x1f\x8c")).end.unwrap_err().code(), "gzip");
    assert_eq!(read(after(b"\x1f")).end.unwrap_err().code(), "truncated");
}

#[test]
fn an_empty_gzip_stream_is_an_empty_file() {
    for object in [gzip(""), gzip(" \n"), gzip(gzip("")), [gzip(""), gzip("")].concat()] {
        assert_eq!(read(&object).content(), ContentKind::Empty);
    }
}

// Faults

#[test]
fn a_fault_is_named_with_its_place_and_the_events_before_it_are_given() {
    let good = r#"{"Records":[{"eventID":"a"},"#;
    for (rest, at) in [
        (r#"{"a":01}]}"#, 6),
        (r#"{"a":1,}]}"#, 7),
        (r#"{"a" 1}]}"#, 5),
        (r#"{a:1}]}"#, 1),
        (r#"{"a":tru}]}"#, 5),
        (r#"{"a":NaN}]}"#, 5),
        (r#"{"a":-}]}"#, 6),
        (r#"{"a":1.}]}"#, 7),
        (r#"{"a":1e}]}"#, 7),
        (r#"{"a":.5}]}"#, 5),
        (r#"{"a":+1}]}"#, 5),
        (r#"{"a":"\x"}]}"#, 7),
        (r#"{"a":"\u12g4"}]}"#, 10),
        ("{\"a\":\"\n\"}]}", 6),
        ("{\"a\":\"x\0\"}]}", 7),
        (r#"{"a":[1,]}]}"#, 8),
        (r#"{"a":[1 2]}]}"#, 8),
        (r#"{"a":{"b":}}]}"#, 10),
        (r#"{"a":[}]}"#, 6),
        (r#"{"a":{]}]}"#, 6),
        (r#"{"a":1]]}"#, 6),
        (r#"7]}"#, 0),
        (r#"null]}"#, 0),
        (r#""x"]}"#, 0),
        (r#"[]]}"#, 0),
        ("]}", 0),
        (r#"{}{}]}"#, 2),
        (r#"{}],}"#, 4),
        (r#"{}]]"#, 3),
        (r#"{}]}x"#, 4),
        (r#"{}]},"#, 4),
        ("{}]}}", 4),
        ("{\u{a0}}]}", 1),
        ("{}]} 7", 5),
        ("{}]} \"x\"", 5),
    ] {
        for limits in [Limits::default(), small(64)] {
            let read = read_with(format!("{good}{rest}").as_bytes(), limits);
            assert_eq!(read.end, Err(ReadError::Json { offset: (good.len() + at) as u64 }), "{rest}");
            assert_eq!(read.ids()[0], "a");
        }
    }
    for (file, at) in [
        ("7", 0),
        ("null", 0),
        ("\"x\"", 0),
        (r#"{"Records":null}"#, 11),
        (r#"{"Records":{}}"#, 11),
        ("{\"a\":1 \"b\"}", 7),
        ("}", 0),
        ("{,}", 1),
    ] {
        fails(file, ReadError::Json { offset: at });
    }
}

#[test]
fn what_is_skipped_is_checked_as_well() {
    for rest in [r#"01"#, r#"{"b":"\x"}"#, "[1,]", r#"{"b" 1}"#, r#"{"b":1]"#, "\"\n\"", "nul"] {
        for limits in [Limits::default(), small(64)] {
            let file = format!(r#"{{"{}":1,"skipped":{rest},"Records":[]}}"#, "x".repeat(70));
            assert_eq!(read_with(file.as_bytes(), limits).end.unwrap_err().code(), "json", "{file}");
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_wherever_they_stand() {
    for (file, offset) in [
        (&b"{\"Records\":[{\"eventID\":\"a\"},{\"x\":\"\xc3\x28\"}]}"[..], 34),
        (b"{\"x\":\"\xff\"}", 6),
        (b"[{\"x\":\"\xed\xa0\x80\"}]", 7),
        (b"{} \xfe", 3),
    ] {
        fails(file, ReadError::Utf8 { offset });
    }
    // A character that is cut off by the end is missing bytes, not wrong ones.
    assert_eq!(read(b"{\"x\":\"\xe2\x82").end.unwrap_err().code(), "truncated");
    assert_eq!(read(b"\xe2\x82").end.unwrap_err().code(), "truncated");
}

#[test]
fn characters_that_meet_the_end_of_a_buffer_are_whole() {
    for pad in 0..70 {
        let file =
            format!(r#"{{"Records":[{{"p":"{}","eventID":"é€😀"}},{{"eventID":"z"}}]}}"#, "x".repeat(pad));
        assert_eq!(read_pieces(file.as_bytes().chunks(1), small(64)).ids(), ["é€😀", "z"]);
    }
}

#[test]
fn an_error_stays() {
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    reader.push(b"{\"Records\":[7", &mut chunks).unwrap();
    let error = reader.finish(&mut chunks).unwrap_err();
    assert_eq!(reader.push(b"]}", &mut chunks), Err(error.clone()));
    assert_eq!(reader.finish(&mut chunks), Err(error));
}

#[test]
fn every_error_has_a_label_of_its_own() {
    assert_eq!(ReadError::CODES.iter().collect::<HashSet<_>>().len(), ReadError::CODES.len());
    assert!(ReadError::CODES.contains(&ReadError::Utf8 { offset: 0 }.code()));
}

// Limits

#[test]
fn a_bomb_is_defused_by_its_ratio() {
    let object = gzip(vec![b' '; 64 << 20]);
    let read = read(&object);
    assert_eq!(read.end, Err(ReadError::RatioLimit { limit: 200 }));
    assert!(read.memory_bytes_max <= 256 << 10);
}

#[test]
fn a_small_file_of_equal_events_is_no_bomb() {
    let event = format!("{{\"eventID\":\"{}\"}},", "a".repeat(1000));
    let file = format!("[{}{{}}]", event.repeat(5000));
    let object = gzip(&file);
    assert!(file.len() > 200 * object.len() && file.len() < 8 << 20);
    assert_eq!(read(&object).events.len(), 5001);
}

#[test]
fn a_bomb_is_defused_by_its_size() {
    let limits = Limits { inflated_bytes_max: 1 << 20, ..Limits::default() };
    let at_limit = format!("[{}]", " ".repeat((1 << 20) - 2));
    assert_eq!(read_with(&gzip(&at_limit), limits).content(), ContentKind::Array);
    let above = format!("{at_limit} ");
    assert_eq!(read_with(&gzip(&above), limits).end, Err(ReadError::InflatedLimit { limit: 1 << 20 }));
    assert_eq!(read_with(above.as_bytes(), limits).end, Err(ReadError::InflatedLimit { limit: 1 << 20 }));
}

#[test]
fn a_bomb_between_two_layers_is_defused() {
    // The inner stream ends at once; what follows is padding that nobody would ever see.
    let padded = [gzip(TWO), vec![0; 64 << 20]].concat();
    assert_eq!(read(gzip(&padded)).end, Err(ReadError::RatioLimit { limit: 200 }));
}

#[test]
fn whitespace_and_unneeded_members_need_no_memory() {
    let long = 8 << 20;
    let skipped = format!("[{}1]", "{\"a\":\"xxxxxxxxxxxxxxxx\"},".repeat(long / 25));
    for file in [
        format!("{}{TWO}", " ".repeat(long)),
        format!("{{\"Records\":[{{\"eventID\":\"a\"}},{}{{\"eventID\":\"b\"}}]}}", "\n".repeat(long)),
        format!("{{\"Records\":[{{\"eventID\":\"a\"}},{{\"eventID\":\"b\"}}],\"x\":{skipped}}}"),
    ] {
        let read = read_pieces(file.as_bytes().chunks(64 << 10), Limits::default());
        assert_eq!(read.ids(), ["a", "b"]);
        assert!(read.memory_bytes_max <= 256 << 10, "{} bytes", read.memory_bytes_max);
    }
    // Before `Records` it might have been an event, so it is held up to the size of one.
    let file = format!("{{\"x\":{skipped},\"Records\":[{{\"eventID\":\"a\"}}]}}");
    let read = read_pieces(file.as_bytes().chunks(64 << 10), Limits::default());
    assert_eq!(read.ids(), ["a"]);
    assert!(read.memory_bytes_max <= (4 << 20) + 1, "{} bytes", read.memory_bytes_max);
}

#[test]
fn an_event_may_be_as_large_as_the_limit_and_no_larger() {
    let limits = Limits { event_bytes_max: 1000, chunk_bytes: 256, ..Limits::default() };
    let event = |bytes: usize| format!("{{\"eventID\":\"{}\"}}", "x".repeat(bytes - 14));
    for (before, after) in
        [("{\"Records\":[{},", ",{}]}"), ("[{},", "]"), ("{\"eventID\":1}", "{\"eventID\":2}")]
    {
        for piece in [1, 100, usize::MAX] {
            let file = |bytes| format!("{before}{}{after}", event(bytes)).into_bytes();
            let good = read_pieces(file(1000).chunks(piece), limits);
            assert!(good.end.is_ok() && good.events[1].len() == 1000, "{:?}", good.end);
            let bad = read_pieces(file(1001).chunks(piece), limits);
            let error = ReadError::EventLimit { offset: before.len() as u64, limit: 1000 };
            assert_eq!((bad.events.len(), bad.end), (1, Err(error)));
            assert!(good.memory_bytes_max <= 1001 && bad.memory_bytes_max <= 1001);
        }
    }
}

#[test]
fn a_document_too_large_for_an_event_is_an_error_only_if_it_is_one() {
    let limits = Limits { event_bytes_max: 1000, chunk_bytes: 256, ..Limits::default() };
    let filler = format!("\"x\":[{}1]", "1,".repeat(2000));
    let read = |last: &str| read_with(format!("{{{filler},{last}}}").as_bytes(), limits).end;
    assert_eq!(read("\"y\":1").unwrap().content, ContentKind::NoRecords(DocumentKind::Other));
    assert_eq!(read("\"Records\":[{}]").unwrap().events, 1);
    assert_eq!(read("\"eventID\":\"x\"").unwrap_err().code(), "event_limit");
    // One token has to be held whole, even one that nobody needs.
    let token = format!("{{\"x\":\"{}\"}}", "x".repeat(2000));
    assert_eq!(read_with(token.as_bytes(), limits).end.unwrap_err().code(), "event_limit");
}

#[test]
fn nesting_is_limited_in_events_and_in_what_is_skipped() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let limits = Limits { depth_max: 5, ..Limits::default() };
    for file in ["[{\"x\":@}]", "{\"Records\":[],\"x\":@}", "{\"x\":@}", "{\"eventID\":@}"] {
        let read = |depth| read_with(file.replace('@', &nested(depth)).as_bytes(), limits).end;
        assert!(read(4).is_ok(), "{file}");
        let offset = (file.find('@').unwrap() + 4) as u64;
        assert_eq!(read(5), Err(ReadError::DepthLimit { offset, limit: 5 }), "{file}");
    }
    let identity = "[{\"userIdentity\":{\"sessionContext\":{\"sessionIssuer\":{\"arn\":\"x\"}}}}]".as_bytes();
    assert!(read_with(identity, Limits { depth_max: 4, ..Limits::default() }).end.is_ok());
    assert_eq!(
        read_with(identity, Limits { depth_max: 3, ..Limits::default() }).end.unwrap_err().code(),
        "depth_limit"
    );
    let deep = format!("[{{\"x\":{}}}]", nested(100_000));
    assert_eq!(
        read_with(deep.as_bytes(), Limits { depth_max: u32::MAX, ..Limits::default() })
            .end
            .unwrap_err()
            .code(),
        "depth_limit"
    );
}

#[test]
fn every_level_of_nesting_remembers_what_it_is() {
    let limits = Limits { depth_max: 256, ..Limits::default() };
    // Three arrays to one object: no period of a machine word hides a mistake.
    let is_object = |level: usize| level % 7 % 4 == 1;
    for depth in [60, 63, 64, 65, 127, 128, 129, 250] {
        let open: String = (0..depth).map(|level| if is_object(level) { "{\"k\":" } else { "[" }).collect();
        let close: Vec<_> = (0..depth).rev().map(|level| if is_object(level) { '}' } else { ']' }).collect();
        for file in ["[{\"x\":@}]", "{\"x\":@}"] {
            let read = |close: &[char]| {
                let value = format!("{open}1{}", close.iter().collect::<String>());
                read_with(file.replace('@', &value).as_bytes(), limits).end
            };
            assert!(read(&close).is_ok(), "{depth}");
            for wrong in 0..depth {
                let mut close = close.clone();
                close[wrong] = if close[wrong] == '}' { ']' } else { '}' };
                assert_eq!(read(&close).unwrap_err().code(), "json", "closer {wrong} of {depth}");
            }
        }
    }
}

#[test]
fn tiny_events_come_in_chunks_that_are_not_many_times_their_size() {
    let file = format!("[{}{{}}]", "{},".repeat(100_000));
    let read = read(&file);
    assert_eq!(read.events.len(), 100_001);
    assert!(read.chunks.iter().all(|chunk| chunk.len() <= 1024 && chunk.memory_bytes() < 1 << 20));
}

#[test]
fn chunks_have_the_asked_size_and_know_where_they_stand() {
    let file = file_of(3000);
    let read = read_pieces(gzip(&file).chunks(5000), small(16 << 10));
    assert_eq!(read.events.len(), 3000);
    assert!(read.chunks.len() > 5 && read.memory_bytes_max <= 16 << 10);
    for chunk in &read.chunks {
        assert!(chunk.bytes().len() <= 16 << 10);
        let start = chunk.offset() as usize;
        assert_eq!(&file.as_bytes()[start..start + chunk.bytes().len()], &chunk.bytes()[..]);
    }
}

#[test]
fn after_a_large_event_the_buffer_is_small_again() {
    let large = format!("{{\"eventID\":\"{}\"}}", "x".repeat(3 << 20));
    let file = format!("[{large},{}{{}}]", "{\"eventID\":\"0123456789abcdef\"},".repeat(50_000));
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    // Byte by byte where it matters: growing must not scan the large event again and again.
    for piece in file.as_bytes().chunks(100) {
        reader.push(piece, &mut chunks).unwrap();
    }
    assert!(reader.memory_bytes() <= 512 << 10, "{}", reader.memory_bytes());
    assert_eq!(reader.finish(&mut chunks).unwrap().events, 50_002);
}
