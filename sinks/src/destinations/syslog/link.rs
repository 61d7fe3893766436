//! One connection to a receiver: written to by the lane, watched for its end by a task of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::window::Window;
use crate::ports::{Clock, Stream};
use crate::{Reason, ReasonCode};

/// Bytes of one write; each has the whole time that an answer may take.
const WRITE_BYTES: usize = 64 * 1024;

/// How often it is looked whether enough was written for a write to have left the window.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What has become of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in the window.
    Open,
    /// It has left the window.
    Left,
    /// The connection ended while it was in the window.
    Lost,
}

/// A connection and its window. Dropping it closes the connection.
pub(super) struct Link {
    /// Its name in tokens.
    pub(super) channel: String,
    shared: Arc<Shared>,
    watcher: JoinHandle<()>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

/// What the watching task knows of the connection.
struct Shared {
    /// Taken out while a write is under way, and for good at the end.
    writer: tokio::sync::Mutex<Option<WriteHalf<Box<dyn Stream>>>>,
    window: Mutex<Window>,
    /// When and why it ended. Each change, of the window too, wakes those who wait.
    end: watch::Sender<Option<End>>,
}

#[derive(Clone, Debug)]
struct End {
    at: Duration,
    why: Reason,
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the end, unless it was noted before: the first reason is the true one.
    fn end(&self, at: Duration, why: Reason) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(End { at, why });
            is_first
        });
    }
}

impl Link {
    /// Takes over a connection that was just opened.
    pub(super) fn new(
        channel: String,
        stream: Box<dyn Stream>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let writer = tokio::sync::Mutex::new(Some(writer));
        let shared = Arc::new(Shared { writer, window: Mutex::default(), end: watch::Sender::new(None) });
        let watcher = tokio::spawn(watch(reader, Arc::clone(&shared), Arc::clone(&clock)));
        Self { channel, shared, watcher, clock, timeout }
    }

    /// Writes a batch; its number in the window.
    ///
    /// # Errors
    /// If the connection has ended, now or before. What was in its window is lost then, and this batch with it.
    pub(super) async fn write(&self, bytes: &Bytes) -> Result<u64, Reason> {
        let mut place = self.shared.writer.lock().await;
        // Taken out for as long as it is in the middle of a frame: nothing may follow half a frame.
        let taken = place.take();
        let Some(mut writer) = taken.filter(|_| self.ended().is_none()) else {
            self.close(Reason::new(ReasonCode::Connection, "a write was given up half-way"));
            return Err(self.why());
        };
        let written = tokio::select! {
            biased;
            why = self.end() => Err(why),
            written = self.write_all(&mut writer, bytes) => written,
        };
        if let Err(why) = written {
            self.close(why);
            return Err(self.why());
        }
        *place = Some(writer);
        let number = self.shared.window().push(bytes.len(), self.clock.monotonic());
        // Others may have left the window by this one.
        self.shared.end.send_modify(|_| {});
        Ok(number)
    }

    async fn write_all(&self, writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &Bytes) -> Result<(), Reason> {
        for part in bytes.chunks(WRITE_BYTES) {
            self.in_time(writer.write_all(part)).await?;
        }
        self.in_time(writer.flush()).await
    }

    async fn in_time(&self, write: impl Future<Output = std::io::Result<()>>) -> Result<(), Reason> {
        tokio::select! {
            biased;
            written = write => written.map_err(|error| failed(&error)),
            () = self.clock.sleep(self.timeout) => {
                Err(Reason::new(ReasonCode::Timeout, "the receiver takes nothing more: a write timed out"))
            }
        }
    }

    /// Waits until it has ended; why.
    async fn end(&self) -> Reason {
        let mut end = self.shared.end.subscribe();
        let why =
            end.wait_for(Option::is_some).await.ok().and_then(|end| end.as_ref().map(|end| end.why.clone()));
        why.unwrap_or_else(|| self.why())
    }

    /// Why it has ended, if it has.
    pub(super) fn ended(&self) -> Option<Reason> {
        self.shared.end.borrow().as_ref().map(|end| end.why.clone())
    }

    fn why(&self) -> Reason {
        self.ended().unwrap_or_else(|| Reason::new(ReasonCode::Connection, "the connection is closed"))
    }

    fn close(&self, why: Reason) {
        self.shared.end(self.clock.monotonic(), why);
        self.watcher.abort();
    }

    /// The window as it is now, or was at the end.
    fn window(&self) -> MutexGuard<'_, Window> {
        let at = self.shared.end.borrow().as_ref().map_or_else(|| self.clock.monotonic(), |end| end.at);
        let mut window = self.shared.window();
        window.advance(at);
        window
    }

    /// Whether nothing of it is in doubt: nothing is in the window, or some of it has left before.
    pub(super) fn was_of_use(&self) -> bool {
        let window = self.window();
        window.is_empty() || window.has_progressed()
    }

    fn fates(&self, numbers: &[u64]) -> Vec<Fate> {
        let has_ended = self.ended().is_some();
        let window = self.window();
        let fate = |&number: &u64| match window.has_left(number) {
            true => Fate::Left,
            false if has_ended => Fate::Lost,
            false => Fate::Open,
        };
        numbers.iter().map(fate).collect()
    }

    /// Waits until one of `numbers` at least is no write in the window of a living connection any more.
    pub(super) async fn decided(&self, numbers: &[u64]) -> Vec<Fate> {
        let mut changes = self.shared.end.subscribe();
        loop {
            changes.mark_unchanged();
            let fates = self.fates(numbers);
            if fates.iter().any(|fate| *fate != Fate::Open) {
                return fates;
            }
            // Writes leave for what is written after them, too.
            let wait = self.shared.window().next(self.clock.monotonic()).min(LOOK_INTERVAL);
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Reads until the connection ends. A receiver of syslog says nothing, so what it says is told in the reason.
async fn watch(mut reader: ReadHalf<Box<dyn Stream>>, shared: Arc<Shared>, clock: Arc<dyn Clock>) {
    let (mut buffer, mut said) = ([0; 1024], 0_u64);
    let why = loop {
        match reader.read(&mut buffer).await {
            Ok(0) if said == 0 => {
                break Reason::new(ReasonCode::Connection, "the receiver closed the connection");
            }
            Ok(0) => {
                let text = format!(
                    "it answered with {said} bytes and closed the connection, as no receiver of syslog does: check \
                     `endpoints`"
                );
                break Reason::new(ReasonCode::Connection, text);
            }
            Ok(bytes) => said += bytes as u64,
            Err(error) => break failed(&error),
        }
    };
    shared.end(clock.monotonic(), why);
    // Closes the socket, unless a write is under way: that ends it then.
    if let Ok(mut writer) = shared.writer.try_lock() {
        writer.take();
    }
}

fn failed(error: &std::io::Error) -> Reason {
    Reason::new(ReasonCode::Connection, format!("the connection failed: {error}"))
}
