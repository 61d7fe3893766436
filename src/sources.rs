//! Where log files are announced: a queue, or a local folder.

pub mod admit;
pub mod bucket_pause;
pub mod directory;
pub mod leases;
pub mod shipped;
pub mod sqs;

use tokio::sync::watch;

/// Tells all parts of the agent to stop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// A pair: set the sender to true to stop.
    #[must_use]
    pub fn pair() -> (watch::Sender<bool>, Self) {
        let (ask, asked) = watch::channel(false);
        (ask, Self { asked })
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until it is time to stop.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        // Whoever could ask is gone: that is a reason to stop, too.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}
