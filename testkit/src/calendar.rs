//! Seconds since 1970 as the dates that keys and events carry.

/// A date and time of day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// The year.
    pub year: u64,
    /// The month, from 1.
    pub month: u64,
    /// The day, from 1.
    pub day: u64,
    /// The hour.
    pub hour: u64,
    /// The minute.
    pub minute: u64,
    /// The second.
    pub second: u64,
}

impl Calendar {
    /// The date of a number of seconds since 1970. The Gregorian calendar, counted in days from 0000-03-01,
    /// so that a leap day ends its year.
    #[must_use]
    pub fn new(seconds: u64) -> Self {
        let days = seconds / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// `2024-05-01T12:00:00Z`.
    #[must_use]
    pub fn iso8601(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// `20240501T1200Z`, as in the names of log files.
    #[must_use]
    pub fn minute_stamp(self) -> String {
        let Self { year, month, day, hour, minute, .. } = self;
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}Z")
    }

    /// `20240501T120000Z`, as in the names of digests.
    #[must_use]
    pub fn second_stamp(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// `2024/05/01`, as in keys.
    #[must_use]
    pub fn folder(self) -> String {
        let Self { year, month, day, .. } = self;
        format!("{year:04}/{month:02}/{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::Calendar;

    #[test]
    fn leap_days_and_year_ends_are_where_they_belong() {
        assert_eq!(Calendar::new(0).iso8601(), "1970-01-01T00:00:00Z");
        assert_eq!(Calendar::new(951_782_400).iso8601(), "2000-02-29T00:00:00Z");
        assert_eq!(Calendar::new(1_709_251_199).iso8601(), "2024-02-29T23:59:59Z");
        assert_eq!(Calendar::new(1_735_689_599).minute_stamp(), "20241231T2359Z");
        assert_eq!(Calendar::new(1_735_689_599).second_stamp(), "20241231T235959Z");
        assert_eq!(Calendar::new(1_735_689_600).folder(), "2025/01/01");
    }
}
