//! The reader of log files: no panic, bounded memory, the same events however the bytes arrive, and of plain
//! files the same opinion as serde_json.
//!
//! The first three bytes of the input say how: chunk size, size of the pieces, compression. The rest is the file.
#![no_main]

#[path = "../../cloudtrail/tests/support/oracle.rs"]
mod oracle;

use std::io::Write;

use cloudtrail::{Chunk, ConsoleFrontEnds, Limits, LogFileEnd, LogFileReader, ReadError, classify};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use oracle::{Verdict, check_fields, judge};

type Outcome = (Vec<Vec<u8>>, Result<LogFileEnd, ReadError>);

fuzz_target!(|data: &[u8]| {
    let &[chunk, piece, how, ref file @ ..] = data else { return };
    let limits = Limits { event_bytes_max: 1 << 20, ..Limits::default() };
    let object = match how % 4 {
        0 | 1 => file.to_vec(),
        2 => gzip(file),
        _ => gzip(&gzip(file)),
    };
    let small = Limits { chunk_bytes: 64 + usize::from(chunk) * 4, ..limits };
    let parts = read(&object, small, usize::from(piece) + 1);
    let whole = read(&object, Limits { chunk_bytes: 32 << 10, ..limits }, usize::MAX);
    if file.starts_with(&[0x1f, 0x8b]) {
        // How much of damaged compressed data is read before the damage shows depends on the pieces.
        assert!(parts.0.starts_with(&whole.0) || whole.0.starts_with(&parts.0));
        assert_eq!(parts.1.is_ok(), whole.1.is_ok());
    } else {
        assert_eq!(parts, whole);
        compare(file, &whole);
    }
});

fn read(object: &[u8], limits: Limits, piece: usize) -> Outcome {
    let mut reader = LogFileReader::new(limits);
    let mut chunks = Vec::new();
    let mut pushed = Ok(());
    for piece in object.chunks(piece) {
        pushed = reader.push(piece, &mut chunks);
        assert!(reader.memory_bytes() <= limits.event_bytes_max.max(limits.chunk_bytes) + 64);
        if pushed.is_err() {
            break;
        }
    }
    let end = pushed.and_then(|()| reader.finish(&mut chunks));
    let fronts = ConsoleFrontEnds::default();
    for (index, event) in chunks.iter().flat_map(Chunk::events).enumerate() {
        assert_eq!(event.index(), index as u64);
        check_fields(&event);
        let mut actor = Vec::new();
        classify(&event, &fronts).write_json(&mut actor);
        assert!(serde_json::from_slice::<serde_json::Value>(&actor).is_ok_and(|actor| actor.is_object()));
    }
    (chunks.iter().flat_map(Chunk::events).map(|event| event.bytes().to_vec()).collect(), end)
}

fn compare(file: &[u8], (events, end): &Outcome) {
    // Limits are ours alone, and a third layer of gzip is no JSON.
    if matches!(end, Err(ReadError::DepthLimit { .. } | ReadError::EventLimit { .. }))
        || file.starts_with(&[0x1f, 0x8b])
    {
        return;
    }
    match judge(file) {
        Verdict::Events(expected) => {
            assert!(end.is_ok(), "{end:?}");
            assert!(events.iter().map(Vec::as_slice).eq(expected.iter().map(String::as_bytes)));
        }
        Verdict::Invalid => assert!(end.is_err(), "{end:?}"),
        Verdict::NoOpinion => {}
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}
