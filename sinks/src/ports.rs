//! The ports that delivery needs: each has one implementation in production and one for a simulation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Answer, Head, Reason, Sink};

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

/// Makes a sink anew, its secrets read again.
#[async_trait]
pub trait Renew: Send + Sync {
    /// The sink with its secrets as they are now; `None` if they cannot be read, which the log then says.
    async fn renew(&self) -> Option<Arc<dyn Sink>>;
}

/// Randomness: jitter, ids. In a simulation it comes from one seed.
pub trait Random: Send + Sync {
    /// 64 random bits.
    fn next(&self) -> u64;
}

/// A computation without IO.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where computations run: worker threads in production, inline in a simulation.
pub trait Compute: Send + Sync {
    /// Takes a job; it runs soon, after those taken before it.
    fn submit(&self, job: Job);
}

/// Runs `work` on `compute` and waits for its result; `None` if the job died (it panicked, or the pool ended).
pub async fn run_on<T: Send + 'static>(
    compute: &dyn Compute,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    compute.submit(Box::new(move || {
        // Nobody waits any more: the result is of no use.
        let _ = done.send(work());
    }));
    result.await.ok()
}

/// A file system. What a method has said `Ok` to survives a crash, directory entries included.
#[async_trait]
pub trait Files: Send + Sync {
    /// Appends `bytes` and makes them durable; makes the file (mode 0600) and its folders where they are
    /// missing. The new length.
    ///
    /// # Errors
    /// Those of the system; then any part of `bytes` may be there.
    async fn append(&self, path: &Path, bytes: Bytes) -> io::Result<u64>;

    /// Replaces the file's content at once: before a crash the old, or the new.
    ///
    /// # Errors
    /// Those of the system.
    async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()>;

    /// Renames a file durably.
    ///
    /// # Errors
    /// Those of the system.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The whole content; `None` if there is no such file.
    ///
    /// # Errors
    /// Those of the system.
    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Cuts off what follows the last line break, left there by a crash; the length after it, 0 if there is no
    /// such file.
    ///
    /// # Errors
    /// Those of the system.
    async fn mend(&self, path: &Path) -> io::Result<u64>;

    /// Cuts a file to its first `len` bytes, durably; nothing where there is no such file.
    ///
    /// # Errors
    /// Those of the system.
    async fn cut(&self, path: &Path, len: u64) -> io::Result<()>;

    /// The files below `folder`, sorted.
    ///
    /// # Errors
    /// Those of the system.
    async fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken from the first byte.
    pub tls: bool,
}

/// Opens connections for protocols that are not HTTP.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Opens a connection, the TLS handshake included.
    ///
    /// # Errors
    /// A [`Reason`] free of secrets, with the code `connection`, `tls` or `timeout`.
    async fn dial(&self, address: &Address) -> Result<Box<dyn Stream>, Reason>;
}

/// Signs requests.
#[async_trait]
pub trait Authorize: Send + Sync {
    /// Adds headers to `head` that sign it and `body`, which are the bytes as they are sent. Asked for every
    /// attempt.
    ///
    /// # Errors
    /// If there are no credentials at the moment: a [`Reason`] with the code `unauthorized`.
    async fn authorize(&self, head: &mut Head, body: &Bytes) -> Result<(), Reason>;
}

/// A bucket to write to.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Stores one object. `Ok` means that it is durable.
    ///
    /// # Errors
    /// Why not, free of secrets.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Reason>;

    /// Stores one object, unless there is one of this name; whether it did. Of several at once only one does.
    ///
    /// # Errors
    /// Why not, free of secrets; it may be stored all the same, or be stored later.
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Reason>;

    /// Reads one object; `None` where there is none.
    ///
    /// # Errors
    /// Why not, free of secrets.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Reason>;

    /// Reads the first `len` bytes of one object, or all where it has fewer; `None` where there is none.
    ///
    /// # Errors
    /// Why not, free of secrets.
    async fn start(&self, key: &str, len: usize) -> Result<Option<Bytes>, Reason>;
}

/// Which bucket, and who writes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlace {
    /// Its name.
    pub bucket: String,
    /// `None`: the identity's own.
    pub region: Option<String>,
    /// The name of an identity in the configuration.
    pub aws: String,
}

/// Buckets, by their places.
pub trait ObjectStores: Send + Sync {
    /// Opens a bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// If there is no such identity.
    fn open(&self, place: &BucketPlace) -> Result<Arc<dyn ObjectStore>, Reason>;
}
