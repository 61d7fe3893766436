//! The groups of a lane that merges: what waits for more of its folder, and when that ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pass::{Cargo, Ready};
use crate::Merge;
use crate::MergeLimits;
use crate::merge::{Forming, Piece};
use crate::ports::Random;

/// The part of a lane's memory that may wait for more: with what is being gathered and stored it stays below the half
/// from which on no further log file is begun.
const OPEN_PART: u64 = 4;

/// The groups that are open, one for each folder.
pub(super) struct Merger {
    merge: Arc<dyn Merge>,
    limits: MergeLimits,
    /// Bytes of memory that all groups may take.
    open_bytes_max: u64,
    open: BTreeMap<String, Group>,
    hurried: bool,
}

struct Group {
    pieces: BTreeMap<String, Piece<Cargo>>,
    /// Pieces that do not wait for another group, and their bytes: what is as full as it may be does not become so by
    /// others that only wait.
    fresh: usize,
    fresh_bytes: u64,
    held: u64,
    due: Duration,
}

impl Merger {
    pub(super) fn new(merge: Arc<dyn Merge>, memory_part: u64) -> Self {
        let limits = merge.limits();
        let open_bytes_max = memory_part / OPEN_PART;
        Self { merge, limits, open_bytes_max, open: BTreeMap::new(), hurried: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// When the next group is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.open.values().map(|group| group.due).min()
    }

    /// From now on nothing waits for more than what is on its way.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Adds what a log file has for a folder.
    pub(super) fn add(&mut self, ready: Ready, now: Duration) {
        self.put(Piece::new(ready.object, ready.cargo), now + self.limits.age_max);
    }

    /// Adds a piece that another group has claimed, to be looked at again when that one may be made void.
    pub(super) fn add_again(&mut self, piece: Piece<Cargo>, now: Duration) {
        let due = piece.overdue_at().unwrap_or(now).max(now);
        self.put(piece, due);
    }

    fn put(&mut self, piece: Piece<Cargo>, due: Duration) {
        let name = piece.object.name.clone();
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let new = || Group { pieces: BTreeMap::new(), fresh: 0, fresh_bytes: 0, held: 0, due };
        let group = self.open.entry(folder).or_insert_with(new);
        group.due = group.due.min(due);
        if let Some(twin) = group.pieces.get_mut(&name) {
            // The same log file a second time: both wait for the same rows.
            return twin.cargo.duties.extend(piece.cargo.duties);
        }
        if piece.overdue_at().is_none() {
            group.fresh += 1;
            group.fresh_bytes += piece.object.bytes.len() as u64;
        }
        group.held += piece.cargo.held.bytes();
        group.pieces.insert(name, piece);
    }

    /// Closes what is full, old, or takes too much memory; all if the lane ends, or is to hurry and nothing comes.
    pub(super) fn close(
        &mut self,
        now: Duration,
        nothing_comes: bool,
        finishing: bool,
        random: &dyn Random,
    ) -> Vec<Forming<Cargo>> {
        let limits = self.limits;
        let hurries = self.hurried && nothing_comes;
        let is_over = |group: &Group| {
            let is_full = group.fresh_bytes >= limits.bytes_max || group.fresh >= limits.pieces_max;
            finishing || is_full || now >= group.due || (hurries && group.fresh > 0)
        };
        let is_over = |(folder, group): (&String, &Group)| is_over(group).then(|| folder.clone());
        let mut folders: Vec<String> = self.open.iter().filter_map(is_over).collect();
        let mut closed = Vec::new();
        while let Some(folder) = folders.pop().or_else(|| self.too_much()) {
            let Some(group) = self.open.remove(&folder) else { continue };
            // Looked at again before its time, it would only come back: it is let go of.
            if group.fresh > 0 || finishing || now >= group.due {
                closed.push(self.form(group, random));
            }
        }
        closed
    }

    /// The group that takes the most memory, where all take too much.
    fn too_much(&self) -> Option<String> {
        let held: u64 = self.open.values().map(|group| group.held).sum();
        let largest = self.open.iter().max_by_key(|(_, group)| group.held);
        largest.filter(|_| held > self.open_bytes_max).map(|(folder, _)| folder.clone())
    }

    /// Lets go of all groups, but for one to probe with.
    pub(super) fn abandon(&mut self, random: &dyn Random) -> Option<Forming<Cargo>> {
        let first = std::mem::take(&mut self.open).into_values().next();
        first.map(|group| self.form(group, random))
    }

    /// A group of one.
    pub(super) fn alone(&self, ready: Ready, random: &dyn Random) -> Forming<Cargo> {
        let piece = Piece::new(ready.object, ready.cargo);
        Forming::new(Arc::clone(&self.merge), &new_id(random), vec![piece])
    }

    fn form(&self, group: Group, random: &dyn Random) -> Forming<Cargo> {
        Forming::new(Arc::clone(&self.merge), &new_id(random), group.pieces.into_values().collect())
    }
}

/// A name for a group: 128 random bits, which nobody makes up twice.
fn new_id(random: &dyn Random) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}
