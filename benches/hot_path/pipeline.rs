//! The way of a log file through the agent's own code, without IO and without the lanes.

use std::sync::Arc;

use anyhow::Context as _;
use cloudtrail::{Chunk, ConsoleFrontEnds, Limits, LogFileReader};
use sinks::destinations::{CommonSettings, build};
use sinks::{Body, Compression, Event, HttpSink, LogFile, ParcelMaker, Shape, Via};

/// A batch's limits, as the sink `elasticsearch` has them by default.
pub(crate) const BODY_BYTES: usize = 8 << 20;
const BODY_EVENTS: usize = 5000;

/// The default level towards destinations.
pub(crate) const GZIP_LEVEL: u32 = 1;

/// Compressed bytes that the agent inflates at a time.
const SLICE_BYTES: usize = 16 << 10;

/// How far the pipeline goes; each stage includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Split,
    Classify,
    Encode,
    Compress,
}

impl Stage {
    pub(crate) const ALL: [Self; 4] = [Self::Split, Self::Classify, Self::Encode, Self::Compress];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Split => "inflate, check, split, note the fields",
            Self::Classify => "classify, write the additions",
            Self::Encode => "batch, lay out the body",
            Self::Compress => "write the body, gzip level 1",
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) events: u64,
    pub(crate) body_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// The pipeline with one Elasticsearch sink.
pub(crate) struct Pipeline {
    sink: Arc<dyn HttpSink>,
    fronts: Arc<ConsoleFrontEnds>,
}

impl Pipeline {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let settings = serde_json::json!({ "endpoints": ["https://elasticsearch.example"] });
        let built = build("elasticsearch", settings, &CommonSettings::default())?;
        let sink = built.http_sink().context("Elasticsearch speaks HTTP")?;
        Ok(Self { sink, fronts: Arc::default() })
    }

    /// Takes `files` through the stages up to `last`. `each` gets every body once it is laid out.
    pub(crate) fn run(
        &self,
        files: &[Vec<u8>],
        last: Stage,
        each: impl FnMut(&Body<'_>),
    ) -> anyhow::Result<Done> {
        let mut run = Run {
            pipeline: self,
            last,
            each,
            batch: Vec::new(),
            batch_bytes: 0,
            buffer: Vec::new(),
            sent: Vec::new(),
            done: Done::default(),
        };
        let mut chunks = Vec::new();
        for file in files {
            let mut reader = LogFileReader::new(Limits::default());
            let mut maker = ParcelMaker::new(Arc::new(log_file()), Arc::clone(&self.fronts));
            for slice in file.chunks(SLICE_BYTES) {
                reader.push(slice, &mut chunks)?;
                run.take(&mut chunks, &mut maker);
            }
            reader.finish(&mut chunks)?;
            run.take(&mut chunks, &mut maker);
        }
        run.close();
        Ok(run.done)
    }
}

struct Run<'a, Each> {
    pipeline: &'a Pipeline,
    last: Stage,
    each: Each,
    batch: Vec<Event>,
    batch_bytes: usize,
    /// Used for one body after the other, as a worker of the agent does.
    buffer: Vec<u8>,
    sent: Vec<u8>,
    done: Done,
}

impl<Each: FnMut(&Body<'_>)> Run<'_, Each> {
    fn take(&mut self, chunks: &mut Vec<Chunk>, maker: &mut ParcelMaker) {
        for chunk in chunks.drain(..) {
            self.done.events += chunk.len() as u64;
            if self.last < Stage::Classify {
                continue;
            }
            let parcel = Arc::new(maker.make(chunk).parcel);
            if self.last < Stage::Encode {
                continue;
            }
            for slot in 0.. {
                let Some(event) = Event::new(&parcel, slot) else { break };
                let len = self.pipeline.sink.encoded_len(&event);
                if self.batch_bytes + len > BODY_BYTES || self.batch.len() >= BODY_EVENTS {
                    self.close();
                }
                self.batch_bytes += len;
                self.batch.push(event);
            }
        }
    }

    fn close(&mut self) {
        let mut body = Body::with_buffer(std::mem::take(&mut self.buffer));
        self.pipeline.sink.body(&self.batch, Shape::Normal, &mut body);
        self.done.body_bytes += body.len() as u64;
        (self.each)(&body);
        if self.last >= Stage::Compress {
            Compression::Gzip(GZIP_LEVEL).encode(&body, &mut self.sent);
            self.done.sent_bytes += self.sent.len() as u64;
        }
        self.buffer = body.into_buffer();
        self.batch.clear();
        self.batch_bytes = 0;
    }
}

fn log_file() -> LogFile {
    LogFile {
        bucket: "trail-of-the-organization".to_owned(),
        key: "AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/01/\
              111122223333_CloudTrail_eu-west-1_20240501T1205Z_7xgocspSowgK0Gto.json.gz"
            .to_owned(),
        version_id: None,
        etag: None,
        via: Via::Queue,
        read_at: "2024-05-01T12:07:31.123Z".to_owned(),
        labels: Vec::new(),
        key_minute: None,
    }
}
