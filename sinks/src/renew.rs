//! A sink that is made anew when the destination does not accept its credentials: they may have been replaced.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::destinations::Finding;
use crate::ports::{Clock, Renew};
use crate::{Attempt, Encoded, Event, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict};

/// Between two readings of the secrets.
const INTERVAL: Duration = Duration::from_secs(30);

/// A sink and what makes it anew.
///
/// A denial for its credentials has the secrets read again, at most every 30 seconds; so has the suspicion that they may be
/// why nothing is taken. The denial stands: it is the next probe that shows whether the new ones are any better. What the
/// sink has learnt is lost with it.
pub struct RenewingSink {
    current: RwLock<Arc<dyn Sink>>,
    make: Arc<dyn Renew>,
    clock: Arc<dyn Clock>,
    renewed_at: Mutex<Option<Duration>>,
}

impl RenewingSink {
    /// Puts the parts together.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, make: Arc<dyn Renew>, clock: Arc<dyn Clock>) -> Self {
        Self { current: RwLock::new(sink), make, clock, renewed_at: Mutex::default() }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is time; notes that it was.
    fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        let mut renewed_at = self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = renewed_at.is_none_or(|at| now.saturating_sub(at) >= INTERVAL);
        if is_due {
            *renewed_at = Some(now);
        }
        is_due
    }

    async fn renew_if_due(&self) {
        if !self.is_due() {
            return;
        }
        // What cannot be read leaves everything as it is; who reads says so in the log.
        if let Some(sink) = self.make.renew().await {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = sink;
        }
    }
}

/// Whether the destination does not accept our credentials.
fn is_unauthorized(judgement: &Judgement) -> bool {
    let is_ours = |why: &Reason| why.code == ReasonCode::Unauthorized;
    match judgement {
        Judgement::Denied(why) => is_ours(why),
        Judgement::Each(verdicts) | Judgement::Strained(verdicts) => {
            verdicts.iter().any(|verdict| matches!(verdict, Verdict::Denied(why) if is_ours(why)))
        }
        _ => false,
    }
}

#[async_trait]
impl Sink for RenewingSink {
    fn encoded_len(&self, event: &Event) -> usize {
        self.sink().encoded_len(event)
    }

    fn event_bytes_max(&self) -> Option<usize> {
        self.sink().event_bytes_max()
    }

    fn group(&self, event: &Event, group: &mut String) {
        self.sink().group(event, group);
    }

    fn events_max(&self) -> usize {
        self.sink().events_max()
    }

    fn requires_confirmation(&self) -> bool {
        self.sink().requires_confirmation()
    }

    async fn encode(&self, events: &Arc<[Event]>, shape: Shape) -> Result<Encoded, Reason> {
        self.sink().encode(events, shape).await
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let judgement = self.sink().send(events, encoded, attempt).await;
        if is_unauthorized(&judgement) {
            self.renew_if_due().await;
        }
        judgement
    }

    async fn confirm(&self, tokens: &[Token]) -> Result<Vec<bool>, Reason> {
        self.sink().confirm(tokens).await
    }

    async fn doubted(&self) {
        self.sink().doubted().await;
        self.renew_if_due().await;
    }

    async fn check(&self) -> Vec<(String, Finding)> {
        self.sink().check().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::testing::{Sample, TestClock};

    /// Accepts the credentials with this number.
    struct Guarded(u32, u32);

    #[async_trait]
    impl Sink for Guarded {
        fn encoded_len(&self, _: &Event) -> usize {
            1
        }

        async fn encode(&self, _: &Arc<[Event]>, _: Shape) -> Result<Encoded, Reason> {
            Ok(Encoded::default())
        }

        async fn send(&self, events: &[Event], _: &Encoded, _: &Attempt) -> Judgement {
            match self.0 == self.1 {
                true => Judgement::all(events.len(), &Verdict::Delivered),
                false => Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401")),
            }
        }
    }

    /// Makes sinks with one number after the other; the destination wants the third.
    struct Numbers(AtomicU32);

    #[async_trait]
    impl Renew for Numbers {
        async fn renew(&self) -> Option<Arc<dyn Sink>> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                // The second cannot be read.
                1 => None,
                number => Some(Arc::new(Guarded(number, 2))),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn denied_for_its_credentials_a_sink_reads_them_again_at_most_every_half_minute() {
        let make = Arc::new(Numbers(AtomicU32::new(0)));
        let sink = RenewingSink::new(Arc::new(Guarded(9, 2)), make.clone(), Arc::new(TestClock::new()));
        let events = [Sample::new("{}").event()];
        let mut log = Vec::new();
        for second in 0..70 {
            let judgement = sink.send(&events, &Encoded::default(), &Attempt::default()).await;
            if matches!(judgement, Judgement::Each(_)) {
                log.push(second);
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!((log, make.0.load(Ordering::Relaxed)), (vec![61], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_is_doubted_reads_them_again_as_well_and_no_more_often() {
        let make = Arc::new(Numbers(AtomicU32::new(2)));
        let sink = RenewingSink::new(Arc::new(Guarded(9, 2)), make.clone(), Arc::new(TestClock::new()));
        for _ in 0..5 {
            sink.doubted().await;
        }
        let events = [Sample::new("{}").event()];
        let judgement = sink.send(&events, &Encoded::default(), &Attempt::default()).await;
        assert!(matches!(judgement, Judgement::Each(_)), "{judgement:?}");
        assert_eq!(make.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn every_method_of_a_sink_is_passed_on() {
        let (contract, own) = (include_str!("contract.rs"), include_str!("renew.rs"));
        let (_, rest) = contract.split_once("pub trait Sink: Send + Sync {").unwrap();
        let (methods, _) = rest.split_once("\n}\n").unwrap();
        let names = methods.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
        let (own, _) = own.split_once("#[cfg(test)]").unwrap();
        let missing: Vec<&str> = names.filter(|name| !own.contains(&format!(".{name}("))).collect();
        assert!(missing.is_empty(), "a default of the trait would speak for the sink: {missing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_denied_for_other_reasons_reads_nothing() {
        for code in [ReasonCode::Misconfigured, ReasonCode::Invalid] {
            assert!(!is_unauthorized(&Judgement::Denied(Reason::new(code, "no"))));
        }
        assert!(!is_unauthorized(&Judgement::Refused(Reason::new(ReasonCode::Unauthorized, "no"))));
        let each = Judgement::Each(vec![
            Verdict::Delivered,
            Verdict::Denied(Reason::new(ReasonCode::Unauthorized, "403")),
        ]);
        assert!(is_unauthorized(&each));
    }
}
