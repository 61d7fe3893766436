//! No message makes the reader of notifications panic, and what it names is never empty.
#![no_main]

use cloudtrail::{Content, Handoff, KeyKind, ObjectKey, read_notification};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let notification = read_notification(body);
    for object in &notification.removed {
        assert!(!object.bucket.is_empty() && !object.key.is_empty());
    }
    match &notification.content {
        Content::Objects(objects) => {
            assert!(!objects.is_empty());
            for object in objects {
                assert!(!object.bucket.is_empty() && !object.key.is_empty());
                assert!(
                    object
                        .key_alternative
                        .as_ref()
                        .is_none_or(|other| !other.is_empty() && *other != object.key)
                );
                let key = ObjectKey::parse(&object.key);
                let hostile = object.key.chars().any(char::is_control);
                assert!(!hostile || key.kind == KeyKind::Foreign);
                assert_eq!(key.kind == KeyKind::Foreign, key.account.is_none());
            }
        }
        Content::Events(events) => {
            assert!((1..=64).contains(&events.id.len()));
            assert!(
                events.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            );
        }
        Content::Handoff(list) => {
            // What was read can be written, and reads the same.
            let written = Handoff::write_list(list).expect("a hand-off that was read is valid");
            assert_eq!(Handoff::read_list(&written).as_ref(), Ok(list));
        }
        Content::Nothing(_) | Content::Unknown(_) => {
            assert!(notification.unreadable.is_none() || matches!(notification.content, Content::Unknown(_)));
        }
    }
});
