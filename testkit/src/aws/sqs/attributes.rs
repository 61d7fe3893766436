//! Queue attributes: read, checked and written under the names that AWS gives them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Queue, QueueCounts, Redrive, Settings, SqsError};
use crate::aws::clock::Millis;

/// Attributes that can be set and have no meaning here.
const KEPT: &[&str] = &[
    "Policy",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
];
/// Attributes that can only be read.
const READ_ONLY: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// Applies attributes to `settings`.
pub(super) fn set(settings: &mut Settings, attributes: &BTreeMap<String, String>) -> Result<(), SqsError> {
    for (name, value) in attributes {
        let invalid = || {
            SqsError::new(
                "InvalidAttributeValue",
                "InvalidAttributeValue",
                format!("Invalid value for the parameter {name}."),
            )
        };
        let number = |min: u64, max: u64| {
            value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(invalid)
        };
        match name.as_str() {
            "VisibilityTimeout" => settings.visibility_ms = number(0, 43_200)? * 1000,
            "MessageRetentionPeriod" => settings.retention_ms = number(60, 1_209_600)? * 1000,
            "DelaySeconds" => settings.delay_ms = number(0, 900)? * 1000,
            "ReceiveMessageWaitTimeSeconds" => settings.wait_ms = number(0, 20)? * 1000,
            "MaximumMessageSize" => {
                settings.message_bytes_max =
                    usize::try_from(number(1024, 1 << 20)?).map_err(|_| invalid())?;
            }
            "RedrivePolicy" => settings.redrive = redrive(value).ok_or_else(invalid)?,
            other if KEPT.contains(&other) => {
                settings.others.insert(name.clone(), value.clone());
            }
            _ => return Err(unknown(name)),
        }
    }
    Ok(())
}

fn unknown(name: &str) -> SqsError {
    SqsError::new("InvalidAttributeName", "InvalidAttributeName", format!("Unknown Attribute {name}."))
}

/// An empty policy ends the redrive. `maxReceiveCount` comes as a number or as a text.
fn redrive(policy: &str) -> Option<Option<Redrive>> {
    if policy.is_empty() {
        return Some(None);
    }
    let policy: Value = serde_json::from_str(policy).ok()?;
    let count = &policy["maxReceiveCount"];
    let receives_max = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let arn = policy["deadLetterTargetArn"].as_str()?;
    let queue = arn.rsplit(':').next()?.to_owned();
    Some(Some(Redrive { queue, receives_max: u32::try_from(receives_max).ok().filter(|n| *n > 0)? }))
}

/// The attributes asked for; `All` stands for every one.
pub(super) fn get(
    queue: &Queue,
    counts: QueueCounts,
    redrive_arn: Option<&str>,
    names: &[String],
) -> Result<BTreeMap<String, String>, SqsError> {
    let all = all(queue, counts, redrive_arn);
    let mut chosen = BTreeMap::new();
    for name in names {
        if name == "All" {
            return Ok(all);
        }
        if let Some(value) = all.get(name) {
            chosen.insert(name.clone(), value.clone());
        } else if !KEPT.contains(&name.as_str())
            && !READ_ONLY.contains(&name.as_str())
            && name != "RedrivePolicy"
        {
            return Err(unknown(name));
        }
    }
    Ok(chosen)
}

fn all(queue: &Queue, counts: QueueCounts, redrive_arn: Option<&str>) -> BTreeMap<String, String> {
    let settings = &queue.settings;
    let seconds = |ms: Millis| (ms / 1000).to_string();
    let mut all: BTreeMap<String, String> = [
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
        ("CreatedTimestamp", seconds(queue.created_ms)),
        ("LastModifiedTimestamp", seconds(queue.created_ms)),
        ("QueueArn", queue.arn.clone()),
        ("VisibilityTimeout", seconds(settings.visibility_ms)),
        ("MessageRetentionPeriod", seconds(settings.retention_ms)),
        ("DelaySeconds", seconds(settings.delay_ms)),
        ("ReceiveMessageWaitTimeSeconds", seconds(settings.wait_ms)),
        ("MaximumMessageSize", settings.message_bytes_max.to_string()),
        ("SqsManagedSseEnabled", "true".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let (Some(redrive), Some(arn)) = (&settings.redrive, redrive_arn) {
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": redrive.receives_max });
        all.insert("RedrivePolicy".to_owned(), policy.to_string());
    }
    all.extend(settings.others.clone());
    all
}
