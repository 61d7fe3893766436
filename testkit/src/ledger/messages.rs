//! Reads what the stand-in for SQS says of its messages into evidence.

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::queue::{Delivery, Owed, QueueEvidence};

/// The history of one message, as far as it explains duplicates.
#[derive(Deserialize)]
struct Message {
    message_id: String,
    #[serde(default)]
    body: String,
    /// Bucket and key of every object that the message names.
    #[serde(default)]
    objects: Vec<(String, String)>,
    deliveries: Vec<HandedOut>,
    /// Whether it is no longer there.
    #[serde(default = "gone")]
    gone: bool,
}

fn gone() -> bool {
    true
}

#[derive(Deserialize)]
struct HandedOut {
    #[serde(default)]
    copy: u32,
    #[serde(default)]
    generation: u32,
    at_ms: u64,
    visible_ms: u64,
    #[serde(default)]
    deleted_ms: Option<u64>,
    #[serde(default)]
    reader_killed: bool,
}

/// The key that marks a hand-off of the agent's own.
const HANDOFF: &str = "trailship.handoff";

#[derive(Deserialize)]
struct Handoff {
    bucket: String,
    key: String,
    #[serde(default)]
    sink: String,
    #[serde(default)]
    ranges: Vec<(u64, u64)>,
}

impl QueueEvidence {
    /// Notes the deliveries of messages as the stand-in for SQS describes them, and says of how many messages.
    ///
    /// A message that names no object (a test message, a body that is none of ours) explains nothing.
    ///
    /// # Errors
    /// Where a message is not described like that.
    pub fn note_messages<T: Serialize>(
        &mut self,
        messages: impl IntoIterator<Item = T>,
    ) -> Result<usize, serde_json::Error> {
        let mut count = 0;
        for message in messages {
            self.note_message(&serde_json::from_value(serde_json::to_value(message)?)?);
            count += 1;
        }
        Ok(count)
    }

    /// The same from text, one message a line: what another process gets from the stand-in.
    ///
    /// # Errors
    /// Where the text cannot be read, or a line is no message.
    pub fn read_messages(&mut self, source: impl BufRead) -> io::Result<usize> {
        let mut count = 0;
        for line in source.lines() {
            self.note_message(&serde_json::from_str(&line?)?);
            count += 1;
        }
        Ok(count)
    }

    fn note_message(&mut self, message: &Message) {
        let is_handoff = message.body.contains(HANDOFF);
        let handoffs = if is_handoff { handed_off(&message.body) } else { Vec::new() };
        let named = message.objects.iter().map(|(bucket, key)| (bucket, key, None));
        let owed = handoffs.iter().map(|Handoff { bucket, key, sink, ranges }| {
            (bucket, key, Some(Owed { sink: sink.clone(), ranges: ranges.clone() }))
        });
        for (bucket, key, handoff) in named.chain(owed) {
            if !message.gone {
                self.pending(bucket, key, handoff.clone());
            }
            for handed_out in &message.deliveries {
                let lease_ended_ms = Some(handed_out.visible_ms).filter(|_| handed_out.deleted_ms.is_none());
                let delivery = Delivery {
                    message_id: message.message_id.clone(),
                    copy: handed_out.copy,
                    generation: handed_out.generation,
                    at_us: handed_out.at_ms * 1000,
                    lease_ended_us: lease_ended_ms.map(|ms| ms * 1000),
                    reader_killed: handed_out.reader_killed,
                    deleted_at_us: handed_out.deleted_ms.map(|ms| ms * 1000),
                    handoff: handoff.clone(),
                };
                self.delivered(bucket, key, delivery);
            }
        }
    }
}

/// What a hand-off's body says.
fn handed_off(body: &str) -> Vec<Handoff> {
    let list: Vec<Value> = serde_json::from_str(body).unwrap_or_default();
    list.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind};
    use crate::destinations::client::send;
    use crate::ledger::Cause;

    #[test]
    fn deliveries_are_read_with_their_copies_and_leases() {
        let out = |copy: u32, at_ms: u64, deleted_ms: Option<u64>| {
            json!({"copy": copy, "generation": 1, "at_ms": at_ms, "visible_ms": at_ms + 5, "deleted_ms": deleted_ms,
                   "released": false, "extensions": 0})
        };
        let objects = json!([["b", "k"]]);
        let messages = [
            json!({"message_id": "m", "body": "{}", "objects": objects, "queue": "q",
                   "deliveries": [out(0, 1, None), out(1, 2, Some(3)), out(0, 9, Some(10))]}),
            json!({"message_id": "n", "body": "{}", "objects": objects, "deliveries": [out(0, 11, Some(12))]}),
            json!({"message_id": "h", "objects": [], "deliveries": [out(0, 20, Some(21))],
                   "body": "[{\"trailship.handoff\":1,\"bucket\":\"b\",\"key\":\"k\",\"sink\":\"s\",\"ranges\":[[0,1]]}]"}),
            json!({"message_id": "x", "body": "hello", "deliveries": [out(0, 30, None)]}),
        ];
        let expected = [
            (2000, Cause::SqsDuplicate),
            (9000, Cause::LeaseLapsed),
            (11_000, Cause::SecondNotification),
            (20_000, Cause::Handoff),
        ];
        let mut evidence = QueueEvidence::default();
        assert_eq!(evidence.note_messages(&messages).unwrap(), 4);
        assert_eq!(evidence.occasions(("b", "k"), ("s", 0), &[]), expected);
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        let mut evidence = QueueEvidence::default();
        assert_eq!(evidence.read_messages(lines.as_bytes()).unwrap(), 4);
        assert_eq!(evidence.occasions(("b", "k"), ("s", 0), &[]), expected);
        assert!(evidence.read_messages(&b"{}\n"[..]).is_err());
    }

    #[tokio::test]
    async fn the_stand_in_for_sqs_describes_messages_like_that() {
        let aws = Aws::start(AwsOptions::default()).await.unwrap();
        aws.create_bucket("b", BucketOptions::default());
        let queue = aws.create_queue("q").url();
        aws.notify("b", Notification::new("q", NotifyKind::S3)).unwrap();
        aws.put_object("b", "k", "x").unwrap();
        let headers =
            [("x-amz-target", "AmazonSQS.ReceiveMessage"), ("content-type", "application/x-amz-json-1.0")];
        let receive = json!({"QueueUrl": queue, "VisibilityTimeout": 0}).to_string();
        for _ in 0..2 {
            assert_eq!(send(&aws.url(), "POST", "/", &headers, &receive).await.status, 200);
        }
        let mut evidence = QueueEvidence::default();
        assert_eq!(evidence.note_messages(aws.queue("q").messages()).unwrap(), 1);
        let causes = |evidence: &QueueEvidence| {
            evidence
                .occasions(("b", "k"), ("s", 0), &[])
                .into_iter()
                .map(|(_, cause)| cause)
                .collect::<Vec<Cause>>()
        };
        assert_eq!(causes(&evidence), [Cause::LeaseLapsed]);
        let mut evidence = QueueEvidence::default();
        let text = send(&aws.url(), "GET", "/_testkit/messages?queue=q", &[], "").await.body;
        assert_eq!(evidence.read_messages(text.as_bytes()).unwrap(), 1);
        assert_eq!(causes(&evidence), [Cause::LeaseLapsed]);
    }
}
