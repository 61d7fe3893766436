//! The stand-in's clock, which tests move forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::calendar::Calendar;
use crate::time::Time;

/// Wall-clock time in milliseconds since 1970.
pub type Millis = u64;

/// A clock that only tests move away from its time.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    time: Time,
    shift_ms: AtomicU64,
}

impl Clock {
    pub(crate) fn new(time: Time) -> Self {
        Self { time, shift_ms: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Millis {
        millis(self.time.now()) + self.shift_ms.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.shift_ms.fetch_add(millis(by), Ordering::SeqCst);
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2024-05-01T12:00:00.000Z`.
pub(crate) fn iso8601_ms(at: Millis) -> String {
    let seconds = Calendar::new(at / 1000).iso8601();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at % 1000)
}

/// `2024-05-01T12:00:00Z`.
pub(crate) fn iso8601(at: Millis) -> String {
    Calendar::new(at / 1000).iso8601()
}

/// `Wed, 01 May 2024 12:00:00 GMT`, the form of HTTP headers.
pub(crate) fn http_date(at: Millis) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let c = Calendar::new(at / 1000);
    let weekday = DAYS[(at / 86_400_000 % 7) as usize];
    let month = MONTHS[(c.month as usize + 11) % 12];
    format!("{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT", c.day, c.year, c.hour, c.minute, c.second)
}

/// The time of a signature, `20240501T120000Z`; nothing where it is no time.
pub(crate) fn basic_time(text: &str) -> Option<Millis> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // Counted in days from 0000-03-01, as in `Calendar`.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.checked_sub(1)?;
    let seconds = days.checked_sub(719_468)? * 86_400 + number(9, 11)? * 3600 + number(11, 13)? * 60;
    Some((seconds + number(13, 15)?) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso8601_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(iso8601(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(iso8601_ms(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(iso8601(1_709_251_200_000), "2024-03-01T00:00:00Z");
        for at in
            [0, 951_782_399_000, 951_782_400_000, 1_709_251_199_000, 1_709_251_200_000, 1_735_689_599_000]
        {
            let stamp = Calendar::new(at / 1000).second_stamp();
            assert_eq!(basic_time(&stamp), Some(at), "{stamp}");
        }
        assert_eq!((basic_time(""), basic_time("20240001TxxyyzzZ")), (None, None));
        assert_eq!(http_date(1_714_564_800_000), "Wed, 01 May 2024 12:00:00 GMT");
    }

    #[test]
    fn the_clock_moves_forward_on_demand() {
        let clock = Clock::default();
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() >= before + 3_600_000);
    }
}
