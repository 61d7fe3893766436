//! The text format of log lines, which no value can break out of.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::escape::escape;

/// One line: time, level, message, fields.
///
/// Values may come from an attacker's hands, such as an object's key: what could move the cursor, begin another
/// line or change the order of letters is escaped. (The default format escapes `?value`, and leaves `%value` as it
/// is.)
pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        SystemTime.format_time(&mut writer)?;
        let level = *event.metadata().level();
        if writer.has_ansi_escapes() {
            write!(writer, " \x1b[{}m{level:>5}\x1b[0m", colour(level))?;
        } else {
            write!(writer, " {level:>5}")?;
        }
        writeln!(writer, " {}{}", line.message, line.fields)
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 90,
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn put(&mut self, field: &Field, text: &str, quote: bool) {
        if field.name() == "message" {
            return escape(text, &mut self.message);
        }
        // Writing to a string cannot fail.
        let _ = write!(self.fields, " {}=", field.name());
        let quote = quote && (text.is_empty() || text.contains([' ', '"', '=']));
        if quote {
            self.fields.push('"');
            escape(&text.replace('\\', "\\\\").replace('"', "\\\""), &mut self.fields);
            self.fields.push('"');
        } else {
            escape(text, &mut self.fields);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value, true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"), false);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, &value.to_string(), true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(log: impl FnOnce(), expected: &str) {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.event_format(Text));
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        // Behind the time.
        assert_eq!(text.split_once(' ').unwrap().1, expected);
    }

    #[test]
    fn a_line_is_level_message_and_fields() {
        check(
            || {
                tracing::info!(
                    code = "started",
                    version = "0.1.0",
                    count = 3,
                    empty = "",
                    "the agent has started"
                )
            },
            " INFO the agent has started code=started version=0.1.0 count=3 empty=\"\"\n",
        );
    }

    #[test]
    fn no_value_breaks_out_of_its_line() {
        let evil = "a\nERROR b\x1b[2J\u{202e}\"";
        check(
            || tracing::warn!(code = "object_refused", key = evil, other = %evil, debug = ?evil, "refused"),
            " WARN refused code=object_refused key=\"a\\nERROR b\\u{1b}[2J\\u{202e}\\\"\" \
             other=a\\nERROR b\\u{1b}[2J\\u{202e}\" debug=\"a\\nERROR b\\u{1b}[2J\\u{202e}\\\"\"\n",
        );
    }
}
