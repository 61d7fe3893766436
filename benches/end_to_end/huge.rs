//! One log file of any size, made on disk without being held in memory.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use flate2::write::GzEncoder;
use tempfile::NamedTempFile;
use testkit::generate::Generator;

/// AWS's files are about as dense.
const GZIP_LEVEL: u32 = 6;

pub(crate) struct LogFile {
    file: NamedTempFile,
    pub(crate) events: u64,
}

impl LogFile {
    /// A log file that inflates to at least `bytes_min`.
    pub(crate) fn generate(bytes_min: u64) -> anyhow::Result<Self> {
        let mut file = tempfile::Builder::new().suffix(".json.gz").tempfile()?;
        let out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
        let made = Generator::new(7).write_huge(bytes_min, &mut encoder, |_| {})?;
        encoder.finish()?.flush()?;
        Ok(Self { file, events: made.events })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn gz_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.file.as_file().metadata()?.len())
    }
}
