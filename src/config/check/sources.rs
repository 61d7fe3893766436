//! Checks `[sources.*]`: queues and folders.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::super::model::{Bucket, Directory, Filter, Labels, Selection, Source, SourceKind, Sqs};
use super::super::raw::{self, RawBucket, RawDirectory, RawFilter, RawSqs};
use super::super::tree::Node;
use super::super::url;
use super::Checker;

const TYPES: [&str; 2] = ["directory", "sqs"];
/// What log files can be, as far as they hold events.
const KINDS: [&str; 4] = ["aggregated", "insight", "log", "network_activity"];
/// Messages that a queue lets its readers hold at once.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const IN_FLIGHT_MAX: u32 = 120_000;
const FETCHES_MAX: u32 = 256;

impl Checker<'_> {
    /// The sources that could be read.
    pub(super) fn sources(&self, agent_labels: &Labels) -> Vec<Source> {
        self.named("sources").filter_map(|(name, table)| self.source(name, table, agent_labels)).collect()
    }

    fn source(&self, name: &str, table: &Node, agent_labels: &Labels) -> Option<Source> {
        let path = format!("sources.{name}");
        let (labels, filter, kind) = match self.type_of(table, &path, &TYPES)? {
            "sqs" => self.sqs(self.read_typed(table, &path)?, name, &path),
            _ => self.directory(self.read_typed(table, &path)?, name, &path),
        };
        let mut all = agent_labels.clone();
        all.retain(|(label, _)| !labels.iter().any(|(own, _)| own == label));
        all.extend(labels);
        all.sort();
        Some(Source { name: name.to_owned(), labels: all, filter, kind })
    }

    fn sqs(&self, mut raw: RawSqs, name: &str, path: &str) -> (Labels, Filter, SourceKind) {
        let key = |key: &str| format!("{path}.{key}");
        self.address(&raw.queue_url, &key("queue_url"), self.plaintext(&raw.aws), &identity_path(&raw.aws));
        self.region(raw.region.as_deref(), &key("region"));
        self.handoff_queue(&raw, &key("handoff_queue_url"));
        self.require(
            !raw.buckets.is_empty(),
            &key("buckets"),
            "empty: name the buckets that log files lie in",
        );
        let seconds = |span: Duration| span.subsec_nanos() == 0;
        let (wait, visibility) = (raw.wait.0, raw.visibility_timeout.0);
        let ranges = [
            ("wait", seconds(wait) && wait <= Duration::from_secs(20), "whole seconds, at most \"20s\""),
            (
                "visibility_timeout",
                seconds(visibility)
                    && (Duration::from_secs(30)..=Duration::from_secs(11 * 3600)).contains(&visibility),
                "whole seconds, from \"30s\" to \"11h\"",
            ),
            ("fetch_concurrency", (1..=FETCHES_MAX).contains(&raw.fetch_concurrency), "from 1 to 256"),
            (
                "leases_max",
                (raw.fetch_concurrency..=IN_FLIGHT_MAX).contains(&raw.leases_max),
                "from fetch_concurrency to 120000, the number of messages that a queue lets its readers hold",
            ),
            ("read_attempts", (1..=100).contains(&raw.read_attempts), "from 1 to 100"),
        ];
        for (name, good, message) in ranges {
            self.require(good, &key(name), message);
        }
        raw.region = raw.region.or_else(|| region_of(&raw.queue_url));
        let filter = self.filter(&mut raw.include, &mut raw.exclude, path);
        let labels = self.labels(&raw.labels, &key("labels"));
        let buckets = raw.buckets.iter().enumerate();
        let buckets = buckets
            .map(|(at, bucket)| self.bucket(bucket, &raw.aws, &key(&format!("buckets.{at}"))))
            .collect();
        self.keep_typed("sources", name, "sqs", &raw);
        let queue = Sqs {
            handoff_queue_url: raw.handoff_queue_url.filter(|url| *url != raw.queue_url),
            queue_url: raw.queue_url,
            region: raw.region,
            aws: raw.aws,
            buckets,
            wait,
            visibility_timeout: visibility,
            fetch_concurrency: raw.fetch_concurrency as usize,
            leases_max: raw.leases_max as usize,
            read_attempts: raw.read_attempts,
        };
        (labels, filter, SourceKind::Sqs(queue))
    }

    fn handoff_queue(&self, raw: &RawSqs, path: &str) {
        let Some(url) = &raw.handoff_queue_url else { return };
        self.address(url, path, self.plaintext(&raw.aws), &identity_path(&raw.aws));
        let region = raw.region.clone().or_else(|| region_of(&raw.queue_url));
        if let (Some(own), Some(other)) = (region, region_of(url)) {
            let message =
                format!("a queue in {other}, where the source's is in {own}: use one in the same region");
            self.require(own == other, path, &message);
        }
        let fifo = "a FIFO queue, which delays no single message: use a standard queue";
        self.require(!url.ends_with(".fifo"), path, fifo);
    }

    fn directory(&self, mut raw: RawDirectory, name: &str, path: &str) -> (Labels, Filter, SourceKind) {
        self.require(!raw.path.is_empty(), &format!("{path}.path"), "empty: name the folder to watch");
        let interval = raw.poll_interval.0;
        let message = "from \"100ms\" to \"1h\"";
        let good = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval);
        self.require(good, &format!("{path}.poll_interval"), message);
        let filter = self.filter(&mut raw.include, &mut raw.exclude, path);
        let labels = self.labels(&raw.labels, &format!("{path}.labels"));
        self.keep_typed("sources", name, "directory", &raw);
        let kind = Directory { path: PathBuf::from(raw.path), poll_interval: interval };
        (labels, filter, SourceKind::Directory(kind))
    }

    fn bucket(&self, raw: &RawBucket, queue_aws: &str, path: &str) -> Bucket {
        let key = |key: &str| format!("{path}.{key}");
        let plain = raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
        let message =
            "not a bucket's name: lower-case letters, digits, \"-\", \".\", and \"*\" for any characters";
        self.require(plain && !raw.name.is_empty(), &key("name"), message);
        if raw.name.contains('*') && raw.owner.is_none() {
            let only = raw.name.bytes().all(|b| b == b'*');
            let message =
                "names buckets of anybody, whose contents would pass for yours: say their owner as well";
            if only {
                self.problem(&key("name"), message);
            } else {
                self.warn(&key("name"), message);
            }
        }
        if let Some(owner) = &raw.owner {
            self.require(is_account(owner), &key("owner"), "not an account: 12 digits in quotes");
        }
        self.require(
            !raw.prefix.starts_with('/'),
            &key("prefix"),
            "keys do not begin with \"/\": take it away",
        );
        self.region(raw.region.as_deref(), &key("region"));
        Bucket {
            name: raw.name.clone(),
            owner: raw.owner.clone(),
            prefix: raw.prefix.clone(),
            region: raw.region.clone(),
            aws: raw.aws.clone().unwrap_or_else(|| queue_aws.to_owned()),
        }
    }

    fn filter(&self, include: &mut RawFilter, exclude: &mut RawFilter, path: &str) -> Filter {
        if include.kinds.is_none() {
            include.kinds = raw::include_default().kinds;
        }
        exclude.kinds.get_or_insert_default();
        Filter {
            include: self.selection(include, &format!("{path}.include")),
            exclude: self.selection(exclude, &format!("{path}.exclude")),
        }
    }

    fn selection(&self, raw: &RawFilter, path: &str) -> Selection {
        for (index, account) in raw.accounts.iter().enumerate() {
            let path = format!("{path}.accounts.{index}");
            self.require(is_account(account), &path, "not an account: 12 digits in quotes");
        }
        for (index, region) in raw.regions.iter().enumerate() {
            self.region(Some(region), &format!("{path}.regions.{index}"));
        }
        let kinds = raw.kinds.clone().unwrap_or_default();
        for (index, kind) in kinds.iter().enumerate() {
            let message = format!("unknown kind \"{kind}\": use {}", KINDS.join(", "));
            self.require(KINDS.contains(&kind.as_str()), &format!("{path}.kinds.{index}"), &message);
        }
        let set = |values: &[String]| values.iter().cloned().collect::<BTreeSet<_>>();
        Selection { accounts: set(&raw.accounts), regions: set(&raw.regions), kinds: set(&kinds) }
    }

    /// Whether an identity allows addresses without TLS.
    pub(super) fn plaintext(&self, identity: &str) -> bool {
        let allows = |table: Option<&Node>| {
            table
                .and_then(|table| table.get("allow_plaintext"))
                .map(|node| matches!(node.value, super::super::tree::Value::Boolean(true)))
        };
        let default = self.tree.get("aws");
        allows(default.and_then(|aws| aws.get(identity))).or_else(|| allows(default)).unwrap_or(false)
    }
}

pub(super) fn identity_path(identity: &str) -> String {
    match identity {
        super::super::model::DEFAULT_IDENTITY => "aws".to_owned(),
        identity => format!("aws.{identity}"),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The region in the host of a queue's URL: `sqs.REGION.…`, `sqs-fips.REGION.…` or `REGION.queue.…`.
/// <https://docs.aws.amazon.com/general/latest/gr/sqs-service.html>
pub(super) fn region_of(queue_url: &str) -> Option<String> {
    let (_, host) = url::scheme_and_host(queue_url)?;
    let labels: Vec<&str> = host.split('.').collect();
    let amazon = host.ends_with(".amazonaws.com")
        || host.ends_with(".amazonaws.com.cn")
        || host.ends_with(".api.aws")
        || host.ends_with(".amazonaws.eu")
        || host.ends_with(".api.amazonwebservices.com.cn");
    match labels.as_slice() {
        ["sqs" | "sqs-fips", region, ..] if amazon => Some((*region).to_owned()),
        [region, "queue", "amazonaws", ..] => Some((*region).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_holds_events_can_be_chosen() {
        use cloudtrail::KeyKind;
        let shipped = KeyKind::ALL.iter().filter(|kind| !matches!(kind, KeyKind::Digest | KeyKind::Foreign));
        assert_eq!(shipped.map(|kind| kind.as_str()).collect::<BTreeSet<_>>(), BTreeSet::from(KINDS));
    }

    #[test]
    fn the_region_is_read_from_the_queues_host() {
        for (url, region) in [
            ("https://sqs.eu-west-1.amazonaws.com/111122223333/q", Some("eu-west-1")),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", Some("us-gov-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", Some("cn-north-1")),
            ("https://sqs.eu-west-1.api.aws/1/q", Some("eu-west-1")),
            ("https://eu-west-1.queue.amazonaws.com/1/q", Some("eu-west-1")),
            ("http://localhost:9324/1/q", None),
            ("http://sqs.example.com/1/q", None),
        ] {
            assert_eq!(region_of(url).as_deref(), region, "{url}");
        }
    }
}
