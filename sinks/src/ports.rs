//! The ports that delivery needs: each has one implementation in production and one for a simulation.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Answer, Head, Reason};

/// Exchanges one request for one answer.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `head` and `body`, and reads the whole answer.
    ///
    /// Never follows a redirect, never retries. An answer longer than the limit, cut short or late is an error.
    ///
    /// # Errors
    /// A [`Reason`] free of URLs and header values, with the code `connection`, `tls`, `timeout` or `garbled`.
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason>;
}

/// The time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Wall clock.
    fn now(&self) -> SystemTime;
    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Randomness: jitter, ids. In a simulation it comes from one seed.
pub trait Random: Send + Sync {
    /// 64 random bits.
    fn next(&self) -> u64;
}
