//! One queue of the stand-in, as a test in the same process sees it.

use std::time::Duration;

use super::clock::millis;
use super::notify::envelope;
use super::sqs::{Outgoing, Redrive};
use super::{AwsError, MessageHistory, QueueBehaviour, QueueCounts, Shared};

/// One queue, seen by a test.
pub struct QueueHandle<'a> {
    shared: &'a Shared,
    name: String,
}

impl<'a> QueueHandle<'a> {
    pub(super) fn new(shared: &'a Shared, name: &str) -> Self {
        Self { shared, name: name.to_owned() }
    }

    /// The URL that SQS clients use.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.queue_url(&self.name)
    }

    /// The queue's ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        self.shared.names.queue_arn(&self.name)
    }

    /// How many messages it holds.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        let now = self.shared.clock.now();
        self.shared.state().sqs.counts(&self.name, now).unwrap_or_default()
    }

    /// Age of the oldest message, which AWS publishes as a metric.
    #[must_use]
    pub fn oldest_age(&self) -> Option<Duration> {
        let now = self.shared.clock.now();
        self.shared.state().sqs.queue(&self.name).ok()?.oldest_age_ms(now).map(Duration::from_millis)
    }

    /// Puts a message on it and gives the message's id.
    ///
    /// # Errors
    /// Where the queue does not exist or SQS would refuse the message.
    pub fn send(&self, body: &str) -> Result<String, AwsError> {
        let now = self.shared.clock.now();
        let out = Outgoing { body: body.to_owned(), ..Outgoing::default() };
        let message = self.shared.state().sqs.send(&self.name, out, now)?;
        self.shared.changed.notify_waiters();
        Ok(message.id.clone())
    }

    /// Puts a message on it inside an SNS envelope.
    ///
    /// # Errors
    /// Where the queue does not exist or SQS would refuse the message.
    pub fn send_via_sns(&self, message: &str) -> Result<String, AwsError> {
        let now = self.shared.clock.now();
        let body = {
            let mut state = self.shared.state();
            envelope(&mut state.rng, &self.shared.names, None, message, now)
        };
        self.send(&body)
    }

    /// Ends the leases of everything that was received with this access key, as when a reader is gone and their time is
    /// over. Gives bucket and key of each log file that their messages were sent for.
    pub fn lapse(&self, access_key: &str) -> Vec<(String, String)> {
        let now = self.shared.clock.now();
        let lapsed = self.shared.state().sqs.lapse(&self.name, access_key, now);
        self.shared.changed.notify_waiters();
        lapsed.unwrap_or_default()
    }

    /// How far it is from a plain list.
    ///
    /// # Errors
    /// Where the queue does not exist.
    pub fn behave(&self, behaviour: QueueBehaviour) -> Result<(), AwsError> {
        self.shared.state().sqs.queue(&self.name)?.behaviour = behaviour;
        Ok(())
    }

    /// Sets how long a received message stays invisible.
    ///
    /// # Errors
    /// Where the queue does not exist.
    pub fn set_visibility_timeout(&self, timeout: Duration) -> Result<(), AwsError> {
        self.shared.state().sqs.queue(&self.name)?.settings.visibility_ms = millis(timeout);
        Ok(())
    }

    /// Sends messages to `dead_letters` that were received more than `receives_max` times. Makes that queue.
    ///
    /// # Errors
    /// Where this queue does not exist.
    pub fn redrive_to(&self, dead_letters: &str, receives_max: u32) -> Result<(), AwsError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.sqs.create(dead_letters, now);
        let redrive = Redrive { queue: dead_letters.to_owned(), receives_max };
        state.sqs.queue(&self.name)?.settings.redrive = Some(redrive);
        Ok(())
    }

    /// Puts everything from its dead-letter queue back, as new messages: they get new ids and a new age. Gives how
    /// many there were.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>
    ///
    /// # Errors
    /// Where the queue does not exist.
    pub fn redrive(&self) -> Result<u64, AwsError> {
        let now = self.shared.clock.now();
        let moved = self.shared.state().sqs.redrive(&self.name, now)?;
        self.shared.changed.notify_waiters();
        Ok(moved)
    }

    /// The bodies of all messages that it holds, oldest first.
    #[must_use]
    pub fn bodies(&self) -> Vec<String> {
        self.shared.state().sqs.queue(&self.name).map(|queue| queue.bodies()).unwrap_or_default()
    }

    /// The bodies of all messages in its dead-letter queue.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<String> {
        let mut state = self.shared.state();
        let target = state.sqs.queue(&self.name).ok().and_then(|queue| queue.dead_letter_queue());
        let Some(target) = target else { return Vec::new() };
        state.sqs.queue(&target).map(|queue| queue.bodies()).unwrap_or_default()
    }

    /// The life of every message that was ever on it.
    #[must_use]
    pub fn messages(&self) -> Vec<MessageHistory> {
        self.shared.state().sqs.histories(Some(&self.name))
    }
}
