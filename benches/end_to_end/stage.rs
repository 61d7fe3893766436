//! Everything outside the agent: SQS and S3 with log files in them, and the destination.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use testkit::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind};
use testkit::generate::{FileKind, Generator, log_file_key};
use tokio::time::Instant;

use super::agent::Agent;
use super::destination::Destination;

const BUCKET: &str = "bench-trail";
const QUEUE: &str = "bench-notifications";

/// A load that is not done by then never will be.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Log files of one size.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) files: usize,
    pub(crate) events_each: usize,
    /// So many files are different; the others have the same content under another key.
    pub(crate) distinct: usize,
}

/// A log file as it lies in the bucket.
pub(crate) struct File {
    gz: Bytes,
    json_bytes: usize,
}

impl Load {
    pub(crate) fn events(&self) -> u64 {
        (self.files * self.events_each) as u64
    }

    pub(crate) fn json_bytes_each(&self, files: &[File]) -> usize {
        files.iter().map(|file| file.json_bytes).sum::<usize>() / (files.len() * self.events_each)
    }

    pub(crate) fn generate(&self) -> Vec<File> {
        let mut generator = Generator::new(7);
        let mut file = || {
            let file = generator.log_file(self.events_each);
            File { gz: file.gz.into(), json_bytes: file.json.len() }
        };
        (0..self.distinct).map(|_| file()).collect()
    }
}

pub(crate) struct Stage {
    aws: Aws,
    destination: Destination,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let aws = Aws::start(AwsOptions::default()).await?;
        aws.create_queue(QUEUE);
        aws.create_bucket(BUCKET, BucketOptions::default());
        Ok(Self { aws, destination: Destination::start().await? })
    }

    /// The configuration of AWS and of a source that reads from here.
    pub(crate) fn source_config(&self) -> String {
        let (aws, queue) = (self.aws.url(), self.aws.queue(QUEUE).url());
        format!(
            "[aws]\nregion = \"us-east-1\"\n[aws.endpoints]\ns3 = \"{aws}\"\nsqs = \"{aws}\"\nsts = \"{aws}\"\n\
             [sources.trail]\ntype = \"sqs\"\nqueue_url = \"{queue}\"\nbuckets = [{{ name = \"{BUCKET}\" }}]\n"
        )
    }

    pub(crate) fn search_url(&self) -> String {
        self.destination.url()
    }

    /// Puts log files into the bucket without telling anybody.
    pub(crate) fn store(&self, load: &Load, files: &[File]) -> anyhow::Result<()> {
        for (number, file) in (0..load.files).zip(files.iter().cycle()) {
            self.aws.put_object(BUCKET, &key(number), file.gz.clone())?;
        }
        Ok(())
    }

    /// Puts one log file into the bucket without telling anybody.
    pub(crate) fn store_file(&self, path: &Path) -> anyhow::Result<()> {
        self.aws.put_object(BUCKET, &key(0), std::fs::read(path)?)?;
        Ok(())
    }

    /// Tells the queue of all log files of the load, one message each.
    pub(crate) fn announce(&self, load: &Load) -> anyhow::Result<()> {
        self.aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::S3))?;
        for number in 0..load.files {
            self.aws.announce_again(BUCKET, &key(number))?;
        }
        Ok(())
    }

    /// Tells the queue of the one log file.
    pub(crate) fn announce_file(&self) -> anyhow::Result<()> {
        self.aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::S3))?;
        self.aws.announce_again(BUCKET, &key(0))?;
        Ok(())
    }

    /// Waits until the destination has so many events and the queue is empty.
    pub(crate) async fn wait_for(&self, events: u64, agent: &mut Agent) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let counts = self.aws.queue(QUEUE).counts();
            let items = self.destination.items();
            if counts.visible + counts.in_flight + counts.delayed == 0 && items >= events {
                ensure!(items == events, "{items} events arrived of {events}");
                return Ok(());
            }
            agent.ensure_alive()?;
            ensure!(started.elapsed() < TIME_MAX, "{items} of {events} events arrived in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn key(number: usize) -> String {
    let (unique, delivered_s) = (format!("{number:016}"), 1_714_564_800);
    log_file_key("", None, "111122223333", FileKind::Log, "us-east-1", delivered_s, &unique)
}
