//! Generated log files and notifications, read by the crate that reads real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use cloudtrail::{
    Chunk, ConsoleFrontEnds, Content, Field, KeyKind, Limits, LogFileEnd, LogFileReader, NotificationShape,
    ObjectKey, ReadError, classify, read_notification,
};
use sha2::{Digest, Sha256};
use testkit::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind};
use testkit::generate::{Generator, Oddity, Reading};

/// One event as the reader gives it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    sha256: [u8; 32],
    actor: &'static str,
    event_id: Option<String>,
}

fn read(object: &[u8]) -> (Vec<Seen>, Result<LogFileEnd, ReadError>) {
    let fronts = ConsoleFrontEnds::default();
    let mut reader = LogFileReader::new(Limits::default());
    let (mut chunks, mut seen) = (Vec::new(), Vec::new());
    let mut look = |chunks: &mut Vec<Chunk>| {
        for chunk in chunks.drain(..) {
            seen.extend(chunk.events().map(|event| Seen {
                sha256: Sha256::digest(event.bytes()).into(),
                actor: classify(&event, &fronts).kind.as_str(),
                event_id: event.text(Field::EventId).map(|id| id.into_owned()),
            }));
        }
    };
    let mut end = Ok(());
    for slice in object.chunks(4096) {
        end = reader.push(slice, &mut chunks);
        look(&mut chunks);
        if end.is_err() {
            break;
        }
    }
    let end = end.and_then(|()| reader.finish(&mut chunks));
    look(&mut chunks);
    (seen, end)
}

#[test]
fn generated_files_are_read_to_their_last_byte_with_the_actors_they_were_given() {
    let mut generator = Generator::new(21);
    let mut actors: HashMap<&str, usize> = HashMap::new();
    for _ in 0..100 {
        let file = generator.next_file();
        let (seen, end) = read(&file.gz);
        assert_eq!(end.unwrap().events, file.issued.len() as u64);
        let issued = file.issued.into_iter().map(|one| Seen {
            sha256: one.sha256,
            actor: one.actor,
            event_id: one.event_id,
        });
        for (seen, issued) in seen.into_iter().zip(issued) {
            *actors.entry(issued.actor).or_default() += 1;
            assert_eq!(seen, issued, "{}", file.key);
        }
        let key = ObjectKey::parse(&file.key);
        assert_eq!(
            (key.kind, key.account.as_deref(), key.region.as_deref()),
            (KeyKind::Log, Some(file.account), Some(file.region))
        );
    }
    assert_eq!(actors.len(), 18, "{actors:?}");
}

#[test]
fn odd_files_are_read_as_far_as_they_say() {
    let mut generator = Generator::new(22);
    for oddity in Oddity::ALL {
        let (file, reading) = generator.odd_file(oddity);
        let (seen, end) = read(&file.gz);
        let issued: Vec<_> = file.issued.iter().map(|one| one.sha256).collect();
        let seen: Vec<_> = seen.iter().map(|one| one.sha256).collect();
        match reading {
            Reading::Whole => {
                assert_eq!(end.map(|end| end.events), Ok(issued.len() as u64), "{oddity:?}");
                assert_eq!(seen, issued, "{oddity:?}");
            }
            Reading::Broken => {
                assert!(end.is_err(), "{oddity:?}");
                // Content that a torn or changed gzip gives before it is found out cannot be told from good content.
                if oddity != Oddity::CorruptGzip {
                    assert!(issued.starts_with(&seen), "{oddity:?}");
                }
            }
            Reading::Foreign => {
                assert_eq!((end.map(|end| end.events), seen.len()), (Ok(0), 0), "{oddity:?}");
            }
        }
    }
}

#[tokio::test]
async fn notifications_of_every_way_name_the_object() {
    let aws = Aws::start(AwsOptions::default()).await.unwrap();
    aws.create_bucket("logs", BucketOptions { versioned: true, ..BucketOptions::default() });
    let ways = [
        (NotifyKind::S3, NotificationShape::S3),
        (NotifyKind::S3ViaSns, NotificationShape::S3Sns),
        (NotifyKind::S3ViaSnsRaw, NotificationShape::S3),
        (NotifyKind::EventBridge, NotificationShape::EventBridgeS3),
        (NotifyKind::CloudTrailSns, NotificationShape::CloudTrailSns),
        (NotifyKind::CloudTrailSnsRaw, NotificationShape::CloudTrailSnsRaw),
    ];
    for (at, (kind, _)) in ways.iter().enumerate() {
        let queue = aws.create_queue(&format!("q{at}"));
        aws.notify("logs", Notification::new(&format!("q{at}"), *kind)).unwrap();
        assert!(queue.counts().is_empty());
    }
    let key = "a b/ü+c%2F.json.gz";
    let version = aws.put_object("logs", key, "x").unwrap();
    for (at, (kind, shape)) in ways.iter().enumerate() {
        let bodies = aws.queue(&format!("q{at}")).bodies();
        let notification = read_notification(bodies[0].as_bytes());
        assert_eq!(notification.shape, *shape, "{kind:?}");
        let Content::Objects(objects) = notification.content else { panic!("{kind:?}: no object") };
        assert_eq!(
            (objects.len(), objects[0].bucket.as_str(), objects[0].key.as_str()),
            (1, "logs", key),
            "{kind:?}"
        );
        let names_version = !matches!(kind, NotifyKind::CloudTrailSns | NotifyKind::CloudTrailSnsRaw);
        assert_eq!(objects[0].version_id.as_ref(), names_version.then_some(&version), "{kind:?}");
    }
}
