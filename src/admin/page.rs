//! The status as a page for people: one document, no script, every value escaped.

use std::fmt::{self, Display, Write as _};

use super::status::{SinkState, SinkStatus, SourceState, SourceStatus, Status, Trouble};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#888;--good:#1a7f37;--fair:#9a6700;--bad:#cf222e}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .4rem}\
p{margin:.3rem 0}.soft{color:var(--soft)}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line)}\
th{font-weight:600;white-space:nowrap}td.n,th.n{text-align:right}\
.state{font-weight:600;white-space:nowrap}.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}\
.trouble td{border-bottom:1px solid var(--line);padding-left:1rem}tr.has-trouble td{border-bottom:0}\
code{font-size:.9em;overflow-wrap:anywhere}td code{display:inline-block;min-width:9rem}";

/// Text that stands in a document: markup in it is shown and not obeyed.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page.
pub(super) fn page(status: &Status) -> String {
    let mut out = String::with_capacity(8 << 10);
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, status);
    out
}

fn write_page(out: &mut String, status: &Status) -> fmt::Result {
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>trailship</title>\
         <meta http-equiv=\"refresh\" content=\"5\">\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>"
    )?;
    head(out, status)?;
    out.push_str("<h2>Sources</h2>");
    if status.sources.is_empty() {
        out.push_str("<p class=\"soft\">None.</p>");
    } else {
        out.push_str(
            "<table><tr><th>Name</th><th>State</th><th>Where</th><th class=\"n\">Waiting</th>\
             <th class=\"n\">Held</th><th class=\"n\">Log files</th><th class=\"n\">Events</th><th>Last answer</th></tr>",
        );
        status.sources.iter().try_for_each(|source| source_row(out, source))?;
        out.push_str("</table>");
    }
    out.push_str(
        "<h2>Sinks</h2><table><tr><th>Name</th><th>State</th><th>Where</th><th class=\"n\">Delivered</th>\
         <th class=\"n\">Duplicates</th><th class=\"n\">Dead letters</th><th class=\"n\">In flight</th>\
         <th class=\"n\">Owed log files</th><th>Last delivery</th></tr>",
    );
    status.sinks.iter().try_for_each(|sink| sink_row(out, sink))?;
    out.push_str("</table>");
    if !status.warnings.is_empty() {
        out.push_str("<h2>Warnings of the configuration</h2><ul>");
        status.warnings.iter().try_for_each(|warning| write!(out, "<li>{}</li>", Text(warning)))?;
        out.push_str("</ul>");
    }
    out.push_str("<p class=\"soft\">The same as JSON: <a href=\"/status\">/status</a>. Numbers since the start or the last reload.</p></body></html>\n");
    Ok(())
}

fn head(out: &mut String, status: &Status) -> fmt::Result {
    let (class, word) = match status.not_ready().len() {
        0 => ("good", "ready"),
        _ => ("bad", "not ready"),
    };
    write!(
        out,
        "<h1>trailship <span class=\"soft\">{}</span> <span class=\"state {class}\">{word}</span></h1>",
        Text(&status.version)
    )?;
    write!(
        out,
        "<p class=\"soft\">Up {} (since {}). Events in memory: {} of {}. Configuration <code>{}</code>.</p>",
        Span(status.uptime_seconds),
        Text(&status.started_at),
        Size(status.memory.in_flight_bytes),
        Size(status.memory.budget_bytes),
        Text(status.config_sha256.get(..12).unwrap_or(&status.config_sha256)),
    )?;
    if let Some(reload) = &status.reload {
        let (class, word) = match &reload.problem {
            None => ("good", "all is well"),
            Some(_) => ("bad", "the new one cannot be used, the one before it is in force:"),
        };
        let problem = Text(reload.problem.as_deref().unwrap_or_default());
        let when = Ago(Some(reload.seconds_ago));
        write!(
            out,
            "<p>Configuration read again {when}: <span class=\"{class}\">{word}</span> {problem}</p>"
        )?;
    }
    match &status.dead_letter {
        Some(place) => write!(out, "<p class=\"soft\">Dead letters: <code>{}</code>", Text(place))?,
        None => out.push_str("<p class=\"soft\">Dead letters: nowhere"),
    }
    if status.dead_letter_write_failures > 0 {
        let failures = Count(status.dead_letter_write_failures);
        write!(out, " <span class=\"bad\">{failures} could not be written</span>")?;
    }
    out.push_str("</p>");
    Ok(())
}

fn source_row(out: &mut String, source: &SourceStatus) -> fmt::Result {
    let (class, word) = match source.state {
        SourceState::Starting => ("fair", "starting"),
        SourceState::Ok => ("good", "ok"),
        SourceState::Failing => ("bad", "failing"),
    };
    row(out, source.trouble.is_some(), &source.name, &source.type_name, class, word)?;
    write!(
        out,
        "<td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td>{}</td></tr>",
        Text(&source.place),
        Maybe(source.visible_messages.map(Count)),
        Maybe(source.leases.map(Count)),
        Count(source.log_files),
        Count(source.events),
        Ago(source.last_receive_seconds_ago),
    )?;
    trouble_row(out, source.trouble.as_ref(), 8)?;
    source.paused_buckets.iter().try_for_each(|bucket| {
        write!(
            out,
            "<tr class=\"trouble\"><td colspan=\"8\"><b class=\"bad\">Bucket {} refuses us</b> for {}, {} log files wait: \
             {}<br><b>What to do:</b> {}</td></tr>",
            Text(&bucket.name),
            Span(bucket.paused_seconds),
            Count(bucket.waiting_log_files),
            Text(&bucket.text),
            Text(&bucket.remedy)
        )
    })
}

fn sink_row(out: &mut String, sink: &SinkStatus) -> fmt::Result {
    let (class, word) = match sink.state {
        SinkState::Ok => ("good", "ok"),
        SinkState::Slow => ("fair", "slow"),
        SinkState::Unavailable => ("fair", "unavailable"),
        SinkState::Denied => ("bad", "denied"),
    };
    row(out, sink.trouble.is_some(), &sink.name, &sink.type_name, class, word)?;
    let optional = if sink.required { "" } else { " <span class=\"soft\">(not required)</span>" };
    write!(out, "<td><code>{}</code>{optional}</td>", Text(&sink.places.join(" ")))?;
    let events = sink.events;
    for count in [events.delivered, events.duplicate, events.dead_lettered, events.in_flight] {
        write!(out, "<td class=\"n\">{}</td>", Count(count))?;
    }
    write!(out, "<td class=\"n\">{}", Count(sink.owed_log_files))?;
    if let Some(seconds) = sink.owed_oldest_seconds {
        write!(out, "<br><span class=\"soft\">oldest {}</span>", Span(seconds))?;
    }
    write!(out, "</td><td>{}</td></tr>", Ago(sink.last_delivery_seconds_ago))?;
    trouble_row(out, sink.trouble.as_ref(), 9)
}

/// The beginning of a row: name, type, state.
fn row(out: &mut String, trouble: bool, name: &str, kind: &str, class: &str, word: &str) -> fmt::Result {
    let mark = if trouble { " class=\"has-trouble\"" } else { "" };
    write!(
        out,
        "<tr{mark}><td><b>{}</b><br><span class=\"soft\">{}</span></td><td class=\"state {class}\">{word}</td>",
        Text(name),
        Text(kind)
    )
}

fn trouble_row(out: &mut String, trouble: Option<&Trouble>, columns: usize) -> fmt::Result {
    let Some(trouble) = trouble else { return Ok(()) };
    write!(
        out,
        "<tr class=\"trouble\"><td colspan=\"{columns}\"><span class=\"soft\">{}:</span> {}<br><b>What to do:</b> {}</td></tr>",
        Ago(Some(trouble.seconds_ago)),
        Text(&trouble.text),
        Text(&trouble.remedy)
    )
}

/// A number with its thousands apart.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Bytes in a unit that is easy to read.
struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

/// Seconds in the two units that matter.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 60 => write!(f, "{seconds} s"),
            seconds if seconds < 3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds if seconds < 86_400 => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
            seconds => write!(f, "{} d {} h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

struct Ago(Option<u64>);

impl Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(0) => f.write_str("just now"),
            Some(seconds) => write!(f, "{} ago", Span(seconds)),
            None => f.write_str("never"),
        }
    }
}

struct Maybe(Option<Count>);

impl Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(count) => count.fmt(f),
            None => f.write_char('–'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_value_is_shown_and_not_obeyed() {
        assert_eq!(
            Text("<a b='c' d=\"e\">&\n").to_string(),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\u{fffd}"
        );
    }

    #[test]
    fn numbers_read_well() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")]
        {
            assert_eq!(Count(number).to_string(), text);
        }
        for (seconds, text) in [(59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(Span(seconds).to_string(), text);
        }
        assert_eq!(
            (Size(64 << 20).to_string(), Size(2048).to_string()),
            ("64 MiB".to_owned(), "2 KiB".to_owned())
        );
    }
}
