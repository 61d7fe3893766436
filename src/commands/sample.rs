//! `trailship sample`: writes synthetic log files, as CloudTrail would have written them.

use anyhow::Context as _;
use bytes::Bytes;
use sinks::ports::Files as _;
use testkit::generate::Generator;

use super::{Failure, say};
use crate::cli::{EXIT_DONE, Sample};
use crate::ports::LocalFiles;

/// Writes the files.
pub async fn sample(options: &Sample) -> Result<u8, Failure> {
    let mut generator = Generator::new(options.seed);
    let mut events = 0;
    for number in 0..options.files {
        let size = generator.draw_file_size(u64::from(number)).min(options.events as usize);
        let file = generator.log_file(size);
        let path = options.out.join(&file.key);
        events += file.issued.len();
        let written = LocalFiles.replace(&path, Bytes::from(file.gz)).await;
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    say(&format!("{events} events in {} log files below {}", options.files, options.out.display()));
    Ok(EXIT_DONE)
}
