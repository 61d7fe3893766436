//! `trailship redrive --forget SINK`: deletes what a sink that is gone for good was still owed.

use std::collections::BTreeSet;

use anyhow::anyhow;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use cloudtrail::{Content, Handoff, read_notification};

use super::super::{Failure, complain, say};
use crate::app;
use crate::aws::describe;
use crate::cli::{EXIT_DONE, EXIT_FAILED};
use crate::config::{Config, SourceKind};
use crate::sources::Stop;

/// How long a message is hidden from the agents while this goes on, in seconds.
const HIDDEN_S: i32 = 600;

/// Messages of others that are held at most: on a queue that hand-offs share with notifications.
const HELD_MAX: usize = 5_000;

/// What was found on one queue.
#[derive(Default)]
struct Tally {
    /// Hand-offs of the sink, and events in them as far as their ends are known.
    forgotten: u64,
    events: u64,
    /// Messages that could not be seen: delayed, or held by an agent.
    unseen: u64,
    cut_short: bool,
}

/// Deletes hand-offs of `sink` from all queues that the configuration has.
pub(super) async fn forget(config: &Config, sink: &str, dry_run: bool, stop: &Stop) -> Result<u8, Failure> {
    if config.sinks.iter().any(|known| known.name == sink) {
        return Err(Failure::Usage(format!(
            "--forget {sink}: [sinks.{sink}] is still configured: take it out first, and restart the agents"
        )));
    }
    let identities = app::load_identities(config).await;
    let (mut all, mut good) = (Tally::default(), true);
    for source in &config.sources {
        let SourceKind::Sqs(sqs) = &source.kind else { continue };
        let Some(aws) = identities.get(&sqs.aws) else { continue };
        let url = sqs.handoff_queue_url.as_ref().unwrap_or(&sqs.queue_url);
        let queue = Queue { client: aws.sqs(sqs.region.as_deref()), url, dry_run };
        match queue.forget(sink, stop).await {
            Ok(tally) => {
                all.forgotten += tally.forgotten;
                all.events = all.events.saturating_add(tally.events);
                all.unseen += tally.unseen;
                all.cut_short |= tally.cut_short;
            }
            Err(error) => {
                good = false;
                complain(&format!("{url}: {error:#}"));
            }
        }
    }
    let verb = if dry_run { "would be forgotten" } else { "forgotten" };
    say(&format!("{sink}: {} hand-offs {verb}, with at least {} events", all.forgotten, all.events));
    if all.unseen > 0 {
        complain(&format!(
            "{} messages could not be seen, since they are delayed or held: run this again in 15 minutes",
            all.unseen
        ));
    }
    if all.cut_short {
        complain("the queue holds too many other messages: run this again when they are fewer");
    }
    let done = good && all.unseen == 0 && !all.cut_short && !stop.is_asked();
    Ok(if done { EXIT_DONE } else { EXIT_FAILED })
}

struct Queue<'a> {
    client: aws_sdk_sqs::Client,
    url: &'a str,
    dry_run: bool,
}

impl Queue<'_> {
    async fn forget(&self, sink: &str, stop: &Stop) -> anyhow::Result<Tally> {
        let (mut tally, mut seen, mut held) = (Tally::default(), BTreeSet::new(), Vec::new());
        let result = loop {
            if stop.is_asked() || held.len() >= HELD_MAX {
                tally.cut_short = held.len() >= HELD_MAX;
                break Ok(());
            }
            let messages = match self.receive().await {
                Ok(messages) if messages.is_empty() => break Ok(()),
                Ok(messages) => messages,
                Err(error) => break Err(error),
            };
            let mut is_new = false;
            for message in messages {
                is_new |= seen.insert(message.message_id().unwrap_or_default().to_owned());
                match self.judge(&message, sink, &mut tally).await {
                    Ok(true) => {}
                    Ok(false) => held.extend(message.receipt_handle().map(str::to_owned)),
                    Err(error) => {
                        held.extend(message.receipt_handle().map(str::to_owned));
                        complain(&format!("{}: {error:#}", self.url));
                        tally.unseen += 1;
                    }
                }
            }
            if !is_new {
                break Ok(());
            }
        };
        // Also after an error: others are waiting for them.
        for receipt in &held {
            let request = self.client.change_message_visibility().queue_url(self.url).receipt_handle(receipt);
            // One that cannot be given back comes back by itself.
            let _ = request.visibility_timeout(0).send().await;
        }
        result?;
        tally.unseen += self.hidden(held.len() as u64).await?;
        Ok(tally)
    }

    async fn receive(&self) -> anyhow::Result<Vec<Message>> {
        let request = self.client.receive_message().queue_url(self.url).max_number_of_messages(10);
        let answer = request.wait_time_seconds(1).visibility_timeout(HIDDEN_S).send().await;
        Ok(answer.map_err(|error| anyhow!(describe(&error)))?.messages.unwrap_or_default())
    }

    /// True if the message is gone; what it says of other sinks is on the queue before that.
    async fn judge(&self, message: &Message, sink: &str, tally: &mut Tally) -> anyhow::Result<bool> {
        let body = message.body().unwrap_or_default();
        let Content::Handoff(list) = read_notification(body.as_bytes()).content else { return Ok(false) };
        let (gone, rest): (Vec<Handoff>, Vec<Handoff>) =
            list.into_iter().partition(|handoff| handoff.sink == sink);
        if gone.is_empty() {
            return Ok(false);
        }
        if !self.dry_run {
            if !rest.is_empty() {
                let body = Handoff::write_list(&rest)?;
                let sent = self.client.send_message().queue_url(self.url).message_body(body).send().await;
                sent.map_err(|error| anyhow!(describe(&error)))?;
            }
            let receipt = message.receipt_handle().unwrap_or_default();
            let request = self.client.delete_message().queue_url(self.url).receipt_handle(receipt);
            request.send().await.map_err(|error| anyhow!(describe(&error)))?;
        }
        tally.forgotten += gone.len() as u64;
        let known = gone.iter().flat_map(|handoff| &handoff.ranges).filter(|range| range.end < u64::MAX);
        tally.events += known.map(|range| range.end - range.start).sum::<u64>();
        Ok(!self.dry_run)
    }

    /// Messages that nobody could receive now, but for those that were `held` here.
    async fn hidden(&self, held: u64) -> anyhow::Result<u64> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(self.url);
        let request = request.set_attribute_names(Some(names.to_vec()));
        let answer = request.send().await.map_err(|error| anyhow!(describe(&error)))?;
        let count = |name| answer.attributes()?.get(name)?.parse::<u64>().ok();
        let [delayed, invisible] = names.each_ref().map(|name| count(name).unwrap_or(0));
        // The estimate may not have heard yet of what was just given back.
        Ok(delayed + invisible.saturating_sub(held))
    }
}
