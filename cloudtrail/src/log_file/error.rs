//! What can be wrong with a log file.

/// Why a log file cannot be read further. The events given out before are good.
///
/// Offsets of [`Gzip`](Self::Gzip), [`Truncated`](Self::Truncated) and
/// [`TrailingGarbage`](Self::TrailingGarbage) count the bytes that were pushed, all others the inflated bytes.
/// Where the fault is in a second layer of gzip, they say how many bytes had been taken by then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The compressed data, or its checksum or length, is wrong.
    #[error("gzip data is corrupt near compressed byte {offset}: fetch the object again")]
    Gzip {
        /// Compressed bytes read before.
        offset: u64,
    },
    /// The input ends in the middle.
    #[error("log file ends too early, at compressed byte {offset}: fetch the rest of the object")]
    Truncated {
        /// Compressed bytes read.
        offset: u64,
    },
    /// Something other than another gzip member or zero bytes follows the compressed data.
    #[error(
        "unexpected data after the end of the gzip stream at compressed byte {offset}: the object was altered"
    )]
    TrailingGarbage {
        /// Compressed bytes read before.
        offset: u64,
    },
    /// The file inflates to more than [`Limits::inflated_bytes_max`](crate::Limits::inflated_bytes_max).
    #[error("log file inflates to more than {limit} bytes: is it a log file?")]
    InflatedLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The file inflates to more than [`Limits::ratio_max`](crate::Limits::ratio_max) times its size.
    #[error("log file inflates to more than {limit} times its size: is it a log file?")]
    RatioLimit {
        /// The limit.
        limit: u32,
    },
    /// An event, or another piece that has to be held whole, is larger than
    /// [`Limits::event_bytes_max`](crate::Limits::event_bytes_max).
    #[error("event at byte {offset} is larger than {limit} bytes: CloudTrail writes at most 1 MiB")]
    EventLimit {
        /// Where it begins.
        offset: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Objects and arrays are nested more than [`Limits::depth_max`](crate::Limits::depth_max) deep.
    #[error("JSON at byte {offset} is nested more than {limit} deep: is it a log file?")]
    DepthLimit {
        /// Where it becomes too deep.
        offset: u64,
        /// The limit.
        limit: u32,
    },
    /// The text is not JSON, or not the JSON of a log file.
    #[error("invalid JSON at byte {offset}: the object is damaged or is no log file")]
    Json {
        /// The first byte at fault; within a CloudWatch message, counted without its escapes.
        offset: u64,
    },
    /// The text is not UTF-8.
    #[error("invalid UTF-8 at byte {offset}: the object is damaged or is no log file")]
    Utf8 {
        /// The first byte at fault.
        offset: u64,
    },
}

impl ReadError {
    /// The label of every error there is.
    pub const CODES: [&'static str; 9] = [
        "gzip",
        "truncated",
        "trailing_garbage",
        "inflated_limit",
        "ratio_limit",
        "event_limit",
        "depth_limit",
        "json",
        "utf8",
    ];

    /// A stable label for metrics and dead letters.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ReadError::Gzip { .. } => "gzip",
            ReadError::Truncated { .. } => "truncated",
            ReadError::TrailingGarbage { .. } => "trailing_garbage",
            ReadError::InflatedLimit { .. } => "inflated_limit",
            ReadError::RatioLimit { .. } => "ratio_limit",
            ReadError::EventLimit { .. } => "event_limit",
            ReadError::DepthLimit { .. } => "depth_limit",
            ReadError::Json { .. } => "json",
            ReadError::Utf8 { .. } => "utf8",
        }
    }
}
