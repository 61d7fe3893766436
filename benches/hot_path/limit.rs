//! What no agent can do without: inflating what S3 holds, and compressing it again for the request.

use std::io::Write as _;

use anyhow::bail;
use flate2::write::GzEncoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::pipeline::{BODY_BYTES, GZIP_LEVEL};

/// The window of deflate, as a power of two.
const WINDOW_BITS: u8 = 15;

/// The buffer is as large as the pipeline's chunks.
const BUFFER_BYTES: usize = 256 << 10;

/// Inflates `files` and compresses the same bytes, in bodies as large as the pipeline's.
pub(crate) fn recompress(files: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut encoder = encoder();
    let mut body_bytes = 0;
    inflate(files, |json| {
        encoder.write_all(json)?;
        body_bytes += json.len();
        if body_bytes >= BODY_BYTES {
            std::hint::black_box(std::mem::replace(&mut encoder, self::encoder()).finish()?);
            body_bytes = 0;
        }
        Ok(())
    })?;
    std::hint::black_box(encoder.finish()?);
    Ok(())
}

/// Inflates `files`, and compresses `bodies`, which were made from them before.
pub(crate) fn compress(files: &[Vec<u8>], bodies: &[Vec<u8>]) -> anyhow::Result<()> {
    inflate(files, |json| {
        std::hint::black_box(json);
        Ok(())
    })?;
    for body in bodies {
        let mut encoder = encoder();
        encoder.write_all(body)?;
        std::hint::black_box(encoder.finish()?);
    }
    Ok(())
}

fn inflate(files: &[Vec<u8>], mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    for file in files {
        let mut inflater = Decompress::new_gzip(WINDOW_BITS);
        let mut taken = 0;
        loop {
            buffer.clear();
            let rest = file.get(taken..).unwrap_or_default();
            let before = inflater.total_in();
            let status = inflater.decompress_vec(rest, &mut buffer, FlushDecompress::None)?;
            taken += usize::try_from(inflater.total_in() - before)?;
            each(&buffer)?;
            match status {
                Status::StreamEnd => break,
                Status::Ok => {}
                Status::BufError => bail!("a generated file is cut short"),
            }
        }
    }
    Ok(())
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::with_capacity(BODY_BYTES / 6), flate2::Compression::new(GZIP_LEVEL))
}
