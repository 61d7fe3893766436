//! Whether dead letters can be kept where the configuration says, as far as that can be told without keeping one.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_sqs::types::QueueAttributeName;
use sinks::MESSAGE_BYTES_MAX;
use sinks::destinations::Finding;

use super::{Findings, writable};
use crate::aws::{Aws, describe};
use crate::config::DeadLetter;

/// Letters wait for a person: not for less than this.
const RETENTION_MIN_S: u64 = 7 * 24 * 3600;

/// Asks a place.
pub(super) async fn check(
    about: &str,
    place: &DeadLetter,
    identities: &BTreeMap<String, Arc<Aws>>,
    findings: &mut Findings,
) {
    let aws = place.identity().and_then(|name| identities.get(name));
    match (place, aws) {
        (DeadLetter::File { path, .. }, _) => {
            findings.add(about, &writable(&path.with_file_name(".trailship-check")).await);
        }
        (DeadLetter::S3 { bucket, region, .. }, Some(aws)) => {
            findings.add(about, &check_bucket(bucket, region.as_deref(), aws).await);
        }
        (DeadLetter::Sqs { queue_url, region, .. }, Some(aws)) => {
            for finding in check_queue(queue_url, region.as_deref(), aws).await {
                findings.add(about, &finding);
            }
        }
        (_, None) => findings.add(about, &Finding::failed("no such identity")),
    }
}

async fn check_bucket(bucket: &str, region: Option<&str>, aws: &Aws) -> Finding {
    match aws.s3(region).head_bucket().bucket(bucket).send().await {
        Ok(_) => Finding::good(format!("s3://{bucket} is there; writing to it is not tried")),
        Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
            Some(403) => Finding::warning(format!(
                "s3://{bucket}: the role may not s3:ListBucket, so this cannot be told; it needs s3:PutObject"
            )),
            Some(404) => Finding::failed(format!("s3://{bucket}: there is no such bucket")),
            _ => Finding::failed(format!("s3://{bucket}: {}", describe(&error))),
        },
    }
}

async fn check_queue(queue_url: &str, region: Option<&str>, aws: &Aws) -> Vec<Finding> {
    let request = aws.sqs(region).get_queue_attributes().queue_url(queue_url);
    let answer = match request.attribute_names(QueueAttributeName::All).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let denied = error.raw_response().is_some_and(|answer| answer.status().as_u16() == 403)
                || describe(&error).contains("AccessDenied");
            let text = describe(&error);
            return vec![match denied {
                true => Finding::warning(format!(
                    "{queue_url}: the role may not sqs:GetQueueAttributes, so this cannot be told; it needs sqs:SendMessage"
                )),
                false => Finding::failed(format!("{queue_url}: {text}")),
            }];
        }
    };
    let attribute = |name: &QueueAttributeName| {
        answer.attributes().and_then(|all| all.get(name)).and_then(|text| text.parse::<u64>().ok())
    };
    let waiting = attribute(&QueueAttributeName::ApproximateNumberOfMessages).unwrap_or(0);
    let text = format!("{queue_url} is there with {waiting} letters; sending to it is not tried");
    let mut findings = vec![Finding::good(text)];
    let most = attribute(&QueueAttributeName::MaximumMessageSize);
    if let Some(bytes) = most.filter(|bytes| *bytes < MESSAGE_BYTES_MAX as u64) {
        findings.push(Finding::failed(format!(
            "it takes no message of more than {bytes} bytes, and letters may have {MESSAGE_BYTES_MAX}: raise MaximumMessageSize"
        )));
    }
    if let Some(seconds) =
        attribute(&QueueAttributeName::MessageRetentionPeriod).filter(|s| *s < RETENTION_MIN_S)
    {
        let days = seconds / 86_400;
        findings.push(Finding::warning(format!("it keeps letters for {days} days: raise it to 14")));
    }
    findings
}
