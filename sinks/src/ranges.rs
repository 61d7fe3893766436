//! A set of event positions in a log file, kept as ranges.

use std::ops::Range;

/// Positions as sorted, disjoint, non-adjacent half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range<u64>>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of the given ranges, in any order; empty ones are ignored.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }

    /// Adds a range; what was there already stays.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Events mostly settle in the order of the file.
        if let Some(last) = self.ranges.last_mut()
            && last.start <= range.start
            && last.end >= range.start
        {
            last.end = last.end.max(range.end);
            return;
        }
        let from = self.ranges.partition_point(|r| r.end < range.start);
        let to = self.ranges.partition_point(|r| r.start <= range.end);
        let mut merged = range;
        for old in self.ranges.get(from..to).unwrap_or_default() {
            merged.start = merged.start.min(old.start);
            merged.end = merged.end.max(old.end);
        }
        self.ranges.splice(from..to, [merged]);
    }

    /// Whether the position is in the set.
    #[must_use]
    pub fn contains(&self, position: u64) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= position);
        self.ranges.get(at).is_some_and(|r| r.contains(&position))
    }

    /// Whether every position below `total` is in the set.
    #[must_use]
    pub fn covers(&self, total: u64) -> bool {
        total == 0 || self.ranges.first().is_some_and(|r| r.start == 0 && r.end >= total)
    }

    /// The first position that is not in the set.
    #[must_use]
    pub fn first_gap(&self) -> u64 {
        self.ranges.first().filter(|r| r.start == 0).map_or(0, |r| r.end)
    }

    /// The first position from `position` on that is not in the set.
    #[must_use]
    pub fn gap_from(&self, position: u64) -> u64 {
        let at = self.ranges.partition_point(|r| r.end <= position);
        self.ranges.get(at).filter(|r| r.start <= position).map_or(position, |r| r.end)
    }

    /// How many positions are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// The ranges in order.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The positions below `total` that are not in the set.
    #[must_use]
    pub fn missing(&self, total: u64) -> Self {
        let mut missing = Vec::new();
        let mut next = 0;
        for range in &self.ranges {
            if range.start >= total {
                break;
            }
            if next < range.start {
                missing.push(next..range.start);
            }
            next = range.end;
        }
        if next < total {
            missing.push(next..total);
        }
        Self { ranges: missing }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_inserted(inserts in prop::collection::vec((0u64..60, 0u64..8), 0..40)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (start, len) in inserts {
                set.insert(start..start + len);
                model.extend(start..start + len);
            }
            for position in 0..80 {
                prop_assert_eq!(set.contains(position), model.contains(&position));
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.covers(10), (0..10).all(|p| model.contains(&p)));
            let missing = set.missing(70);
            for position in 0..70 {
                prop_assert_eq!(missing.contains(position), !model.contains(&position));
            }
            prop_assert!(!missing.contains(70));
            prop_assert!(set.ranges().windows(2).all(|w| w.first().unwrap().end < w.last().unwrap().start));
            prop_assert_eq!(set.first_gap(), (0..).find(|p| !model.contains(p)).unwrap());
            for position in 0..70 {
                prop_assert_eq!(set.gap_from(position), (position..).find(|p| !model.contains(p)).unwrap());
            }
        }
    }
}
