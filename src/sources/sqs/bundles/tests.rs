//! Hand-offs on their way to the stand-in of SQS.
#![allow(clippy::unwrap_used, clippy::panic)]

use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use testkit::aws::{AwsFault, FaultRule};

use super::super::tests::Bed;
use super::*;

fn handoff(number: u64) -> Handoff {
    Handoff {
        bucket: "trail".to_owned(),
        key: format!("AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/01/file-{number:0>200}.json.gz"),
        version_id: None,
        etag: Some("e".to_owned()),
        sink: "sink".to_owned(),
        ranges: vec![number..number + 1, number + 5..number + 6],
        attempts: 0,
        first_seen: Timestamp::from_millis(1_700_000_000_000),
    }
}

impl Bed {
    fn bundles(&self) -> &Arc<Bundles> {
        &self.source.bundles
    }

    /// The hand-offs on the queue, message by message.
    fn messages(&self) -> Vec<Vec<Handoff>> {
        self.aws.queue("q").bodies().iter().map(|body| Handoff::read_list(body).unwrap()).collect()
    }
}

#[tokio::test]
async fn ten_log_files_make_one_message_at_once_and_one_alone_waits_a_second() {
    let bed = Bed::new().await;
    let mut fastest = Duration::MAX;
    // A busy machine may take a second for nothing.
    for round in 1..=3 {
        let begin = tokio::time::Instant::now();
        let sent = join_all((0..10).map(|number| bed.bundles().hand_off(vec![handoff(number)]))).await;
        assert!(sent.iter().all(Result::is_ok));
        assert_eq!(bed.messages(), vec![(0..10).map(handoff).collect::<Vec<_>>(); round]);
        assert_eq!(bed.aws.queue("q").counts().delayed, round, "it is not seen again at once");
        fastest = fastest.min(begin.elapsed());
    }
    assert!(fastest < FIRST_TIME, "{fastest:?}");
    let begin = tokio::time::Instant::now();
    bed.bundles().hand_off(vec![handoff(10)]).await.unwrap();
    assert!(begin.elapsed() >= FIRST_TIME);
    assert_eq!(bed.messages().len(), 4);
}

#[tokio::test]
async fn it_returns_only_once_the_queue_has_them_whatever_fails() {
    let bed = Bed::new().await;
    bed.aws.inject(FaultRule::new("SendMessage", AwsFault::InternalError).times(6));
    let sending = bed.bundles().hand_off(vec![handoff(1)]);
    tokio::pin!(sending);
    let early = tokio::time::timeout(Duration::from_millis(1100), &mut sending).await;
    assert!(early.is_err() && bed.messages().is_empty());
    sending.await.unwrap();
    assert_eq!(bed.messages(), [[handoff(1)]]);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_handed_off_nor_is_anything_with_it() {
    let bed = Bed::new().await;
    let unfit = Handoff { ranges: Vec::new(), ..handoff(2) };
    let sent = bed.bundles().hand_off(vec![handoff(1), unfit]).await;
    assert!(matches!(sent, Err(HandOffError::Unwritable(_))), "{sent:?}");
    assert!(bed.messages().is_empty());
}

#[tokio::test]
async fn what_is_not_permitted_is_not_asked_again_for_a_while() {
    let bed = Bed::new().await;
    let rule = bed.aws.inject(FaultRule::new("SendMessage", AwsFault::Forbidden));
    for _ in 0..3 {
        let sent = bed.bundles().hand_off(vec![handoff(1)]).await;
        assert!(matches!(sent, Err(HandOffError::NotPermitted(_))), "{sent:?}");
    }
    assert_eq!(bed.aws.fired(rule), 1);
    bed.aws.heal_all();
    bed.clock.turn(FORBIDDEN_TIME);
    bed.bundles().hand_off(vec![handoff(1)]).await.unwrap();
    assert_eq!(bed.messages(), [[handoff(1)]]);
}

#[tokio::test]
async fn messages_that_are_sent_on_become_one() {
    let bed = Bed::new().await;
    let both = async {
        let one = bed.bundles().send_on((0..3).map(handoff).collect());
        let other = bed.bundles().send_on((3..7).map(handoff).collect());
        let (one, other) = tokio::join!(one, other);
        (one.unwrap(), other.unwrap())
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(bed.messages().is_empty());
        // The next order of any kind sees that it is time.
        bed.clock.turn(AGAIN_TIME);
        bed.bundles().hand_off(vec![handoff(9)]).await.unwrap();
    };
    tokio::join!(both, later);
    let mut messages = bed.messages();
    messages.sort_by_key(Vec::len);
    assert_eq!(messages, [vec![handoff(9)], (0..7).map(handoff).collect()]);
}

#[tokio::test]
async fn a_queue_that_takes_only_small_messages_gets_several() {
    let bed = Bed::new().await;
    let (client, url) = (&bed.source.client, bed.aws.queue("q").url());
    let request = client.set_queue_attributes().queue_url(&url);
    request.attributes(QueueAttributeName::MaximumMessageSize, "40000").send().await.unwrap();
    bed.bundles().hand_off((0..300).map(handoff).collect()).await.unwrap();
    let messages = bed.messages();
    assert!(messages.len() > 3, "{}", messages.len());
    let mut all: Vec<Handoff> = messages.into_iter().flatten().collect();
    all.sort_by_key(|handoff| handoff.ranges[0].start);
    assert_eq!(all, (0..300).map(handoff).collect::<Vec<_>>());
}

#[test]
fn the_delay_grows_to_what_sqs_takes_and_there_is_none_at_a_shutdown() {
    assert_eq!([0, 1, 3, 6, 100].map(|attempts| Kind::Again.delay(attempts)), [15, 30, 120, 900, 900]);
    assert_eq!(Kind::Last.delay(3), 0);
}

#[test]
fn parts_hold_everything_in_order_and_not_too_much() {
    let item = |len: usize| Item {
        text: "x".repeat(len),
        attempts: 0,
        first_seen: Timestamp::from_millis(0),
        counts: true,
    };
    let lens = [10, 30, 50, 200, 5, 5];
    let parts = split(lens.iter().map(|&len| item(len)).collect(), 100);
    let parts: Vec<Vec<usize>> =
        parts.iter().map(|part| part.iter().map(|item| item.text.len()).collect()).collect();
    assert_eq!(parts, [vec![10, 30, 50], vec![200], vec![5, 5]]);
}

#[test]
fn only_what_somebody_has_to_change_is_not_tried_again() {
    for (status, code, message, is) in [
        (Some(403), "AccessDenied", "no", Trouble::NotPermitted),
        (Some(400), "AccessDeniedException", "no", Trouble::NotPermitted),
        (Some(400), "QueueDoesNotExist", "no", Trouble::NotPermitted),
        (Some(403), "ExpiredToken", "old", Trouble::Passes),
        (Some(403), "RequestTimeTooSkewed", "late", Trouble::Passes),
        (Some(400), "RequestThrottled", "slow", Trouble::Passes),
        (Some(500), "InternalError", "oh", Trouble::Passes),
        (None, "", "", Trouble::Passes),
        (Some(400), "InvalidParameterValue", "Message must be shorter than 1024 bytes.", Trouble::TooLarge),
    ] {
        assert_eq!(trouble(status, code, message), is, "{code}");
    }
}
