//! Looks at the queue that a source hands off to.

use aws_sdk_sqs::types::QueueAttributeName;
use sinks::destinations::Finding;

use super::RETENTION_MIN_S;
use crate::aws::describe;

/// Asks the queue at `url`; `policy` is the redrive policy of the source's own queue.
pub(super) async fn check(client: &aws_sdk_sqs::Client, url: &str, policy: &serde_json::Value) -> Finding {
    let asked = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let answer = match asked.send().await {
        Ok(answer) => answer,
        Err(error) => {
            return Finding::failed(format!(
                "{}: see `handoff_queue_url`, and that the role may sqs:GetQueueAttributes",
                describe(&error)
            ));
        }
    };
    let attributes = answer.attributes().cloned().unwrap_or_default();
    let arn = attributes.get(&QueueAttributeName::QueueArn).map(String::as_str);
    judge(arn, attributes.get(&QueueAttributeName::MessageRetentionPeriod).map(String::as_str), policy)
}

fn judge(arn: Option<&str>, retention: Option<&str>, policy: &serde_json::Value) -> Finding {
    if arn.is_some() && policy["deadLetterTargetArn"].as_str() == arn {
        return Finding::failed(
            "is where the source's queue puts dead letters, which would be read again and again: make another queue \
             and name it in `handoff_queue_url`",
        );
    }
    match retention.and_then(|text| text.parse::<u64>().ok()) {
        Some(seconds) if seconds < RETENTION_MIN_S => Finding::warning(format!(
            "keeps messages for {} days: raise it to 14, so that a sink can be down for long",
            seconds / 86_400
        )),
        _ => Finding::good("reached; whether the role may sqs:SendMessage shows only when it is needed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sinks::destinations::FindingLevel;

    use super::*;

    #[test]
    fn the_queue_of_dead_letters_is_no_place_for_hand_offs() {
        let policy = json!({ "deadLetterTargetArn": "arn:aws:sqs:eu-west-1:111122223333:dead", "maxReceiveCount": 100 });
        for (arn, retention, level) in [
            ("arn:aws:sqs:eu-west-1:111122223333:dead", "1209600", FindingLevel::Failed),
            ("arn:aws:sqs:eu-west-1:111122223333:handoff", "1209600", FindingLevel::Good),
            ("arn:aws:sqs:eu-west-1:111122223333:handoff", "86400", FindingLevel::Warning),
        ] {
            assert_eq!(judge(Some(arn), Some(retention), &policy).level, level, "{arn} {retention}");
        }
    }
}
