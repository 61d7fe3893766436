//! An HTTP destination as a sink: encodes off the runtime, compresses once, exchanges through the transport.

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::ports::{Authorize, Compute, Transport, run_on};
use crate::{
    Answer, Attempt, Body, Encoded, Event, Head, HttpSink, Judgement, Reason, ReasonCode, Redactor, Shape,
    Sink, Token,
};

/// A worker keeps its buffers for the next body, unless they became larger than this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Buffers of a worker. Made anew for each body, they would grow from nothing each time, and leave holes in memory.
#[derive(Default)]
struct Buffers {
    own: Vec<u8>,
    out: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// How request bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip with this level, 1 to 9.
    Gzip(u32),
    /// zlib, which HTTP calls `deflate`, with this level.
    Deflate(u32),
}

impl Compression {
    /// The value of `Content-Encoding`.
    #[must_use]
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Deflate(_) => Some("deflate"),
        }
    }

    /// Compresses a body into `out`, in the place of what was there.
    pub fn encode(self, body: &Body<'_>, out: &mut Vec<u8>) {
        out.clear();
        let written = match self {
            Self::None => {
                out.reserve(body.len());
                body.write_to(out)
            }
            Self::Gzip(level) => {
                let mut encoder = GzEncoder::new(&mut *out, flate2::Compression::new(level));
                write_buffered(body, &mut encoder).and_then(|()| encoder.finish().map(|_| ()))
            }
            Self::Deflate(level) => {
                let mut encoder = ZlibEncoder::new(&mut *out, flate2::Compression::new(level));
                write_buffered(body, &mut encoder).and_then(|()| encoder.finish().map(|_| ()))
            }
        };
        if written.is_err() {
            // Writing to a vector cannot fail; an empty body would be refused, never taken for success.
            out.clear();
        }
    }
}

fn encode(
    sink: &dyn HttpSink,
    events: &[Event],
    shape: Shape,
    compression: Compression,
    buffers: &mut Buffers,
) -> Encoded {
    let mut body = Body::with_buffer(std::mem::take(&mut buffers.own));
    sink.body(events, shape, &mut body);
    compression.encode(&body, &mut buffers.out);
    // It waits for its answer, and perhaps for a retry: a copy has no bytes to spare.
    let encoded = Encoded { plain_len: body.len(), bytes: Bytes::copy_from_slice(&buffers.out) };
    buffers.own = body.into_buffer();
    for buffer in [&mut buffers.own, &mut buffers.out] {
        if buffer.capacity() > BUFFER_BYTES_KEPT {
            *buffer = Vec::new();
        }
    }
    encoded
}

/// Many small pieces cost the compressor a call each: they are gathered first.
fn write_buffered(body: &Body<'_>, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut buffered = std::io::BufWriter::with_capacity(32 * 1024, out);
    body.write_to(&mut buffered)?;
    buffered.flush()
}

/// An [`HttpSink`] with what it needs to be a [`Sink`].
pub struct HttpDestination {
    sink: Arc<dyn HttpSink>,
    transport: Arc<dyn Transport>,
    compute: Arc<dyn Compute>,
    compression: Compression,
    redactor: Redactor,
    authorize: Option<Arc<dyn Authorize>>,
}

impl HttpDestination {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        sink: Arc<dyn HttpSink>,
        transport: Arc<dyn Transport>,
        compute: Arc<dyn Compute>,
        compression: Compression,
        redactor: Redactor,
    ) -> Self {
        Self { sink, transport, compute, compression, redactor, authorize: None }
    }

    /// The same, with every request signed.
    #[must_use]
    pub fn signed(self, authorize: Arc<dyn Authorize>) -> Self {
        Self { authorize: Some(authorize), ..self }
    }

    /// One exchange, the reason of its failure free of the sink's secrets, whatever the transport says.
    async fn exchange(&self, mut head: Head, body: Bytes) -> Result<Answer, Reason> {
        if let Some(authorize) = &self.authorize {
            authorize.authorize(&mut head, &body).await?;
        }
        self.transport.exchange(head, body).await.map_err(|why| self.redactor.clean_reason(why))
    }
}

#[async_trait]
impl Sink for HttpDestination {
    fn encoded_len(&self, event: &Event) -> usize {
        self.sink.encoded_len(event)
    }

    fn event_bytes_max(&self) -> Option<usize> {
        self.sink.event_bytes_max()
    }

    fn events_max(&self) -> usize {
        self.sink.events_max()
    }

    fn group(&self, event: &Event, group: &mut String) {
        self.sink.group(event, group);
    }

    async fn encode(&self, events: &Arc<[Event]>, shape: Shape) -> Result<Encoded, Reason> {
        let (sink, events, compression) = (Arc::clone(&self.sink), Arc::clone(events), self.compression);
        let encoded = run_on(&*self.compute, move || {
            BUFFERS.with_borrow_mut(|buffers| encode(&*sink, &events, shape, compression, buffers))
        });
        encoded.await.filter(|encoded| !encoded.bytes.is_empty()).ok_or_else(not_encoded)
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let mut head = self.sink.head_of(events, attempt);
        if let Some(encoding) = self.compression.content_encoding() {
            head.headers.push(("content-encoding", encoding.to_owned()));
        }
        match self.exchange(head, encoded.bytes.clone()).await {
            // Whatever a sink passes on of an answer as it stands.
            Ok(answer) => self.redactor.clean_judgement(self.sink.judge(events, attempt, &answer)),
            // There are no credentials to sign with.
            Err(why) if why.code == ReasonCode::Unauthorized => Judgement::Denied(why),
            Err(why) => Judgement::Unavailable { why, retry_after: None },
        }
    }

    async fn confirm(&self, tokens: &[Token]) -> Result<Vec<bool>, Reason> {
        let Some((head, body)) = self.sink.confirm(tokens) else {
            return Err(Reason::new(ReasonCode::Other, "the destination has no confirmation"));
        };
        let answer = self.exchange(head, Bytes::from(body)).await?;
        self.sink.confirmed(tokens, &answer).map_err(|why| self.redactor.clean_reason(why))
    }

    fn requires_confirmation(&self) -> bool {
        self.sink.requires_confirmation()
    }
}

/// The job that encodes a batch has died.
pub(crate) fn not_encoded() -> Reason {
    Reason::new(ReasonCode::Other, "the batch could not be encoded: please report this")
}
