//! Merging: what many log files have for one folder becomes one object, each event of it once, whoever dies on the way.
//!
//! A *piece* is what a log file would have stored by itself: its name is a hash of its events. A *group* is a list of
//! pieces. Three kinds of names stand for them, and whatever stands at one of them stays for good (`put_new`):
//!
//! * a claim, `_trailship/members/PIECE.LEVEL`: the only group that may hold the piece at this level;
//! * a list, `_trailship/groups/GROUP.json`: the pieces of the group. Only who has made up the group's name, which
//!   nobody does twice, writes it: once all of its pieces are claimed for it, and before the object;
//! * the object, `FOLDER/merged-GROUP.parquet`: the rows of the pieces in the list; or none, which makes the group void.
//!
//! **Invariant** A piece is claimed at a level only by who has seen that the group of the level below never holds it:
//! it is void, or its list does not name the piece. So no event stands in two objects.
//!
//! **Invariant** An object that is not void holds the rows of its list and no others: from its owner, or from somebody
//! who had all of the pieces in the list. So a piece that is settled stands in an object.

mod closed;
mod records;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;

pub(crate) use closed::Closed;
use records::{Claim, Fate, List, fate, read, stem, to_json, vanished};

use crate::{Object, Reason, StoreError};

/// Requests of one group at once.
const CLAIMS_AT_ONCE: usize = 16;

/// What merging needs of a destination. Names are those of objects, without the destination's own prefix.
#[async_trait]
pub trait Merge: Send + Sync {
    /// When a group is closed.
    fn limits(&self) -> MergeLimits;

    /// Puts the rows of all objects, in this order, into one. Computes only.
    ///
    /// # Errors
    /// If one of them cannot be read, which none can cause that was made by this process.
    fn join(&self, objects: &[Bytes]) -> Result<Bytes, Reason>;

    /// An object without rows.
    fn void(&self) -> Bytes;

    /// Whether an object that begins so is [`void`](Self::void), whoever made it.
    fn is_void(&self, start: &[u8]) -> bool;

    /// Stores an object durably, unless there is one of this name; whether it did.
    ///
    /// # Errors
    /// By what the lane does about it. It may be stored all the same, or later.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError>;

    /// Reads an object; `None` where there is none.
    ///
    /// # Errors
    /// By what the lane does about it.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError>;

    /// Reads the start of an object, enough for [`is_void`](Self::is_void); `None` where there is none.
    ///
    /// # Errors
    /// By what the lane does about it.
    async fn start(&self, name: &str) -> Result<Option<Bytes>, StoreError>;
}

/// When a group is closed: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeLimits {
    /// Bytes of its pieces.
    pub bytes_max: u64,
    /// Age of its first piece.
    pub age_max: Duration,
    /// Pieces.
    pub pieces_max: usize,
    /// How long a group of somebody else may stay without its object, before it is made void. Its owner has claimed
    /// some pieces and has yet to store the rest, which takes seconds; or is dead. Too short costs an owner that lives
    /// its work, and nothing else.
    pub patience: Duration,
}

/// What a log file would have stored by itself, and what its caller keeps with it.
#[derive(Debug)]
pub(crate) struct Piece<T> {
    pub(crate) object: Object,
    pub(crate) cargo: T,
    /// The groups of all levels below do not hold it.
    level: u32,
    waits: Option<Wait>,
}

/// A piece that another group has claimed, which has no object yet.
#[derive(Debug)]
struct Wait {
    /// The group's object.
    group: String,
    /// When it may be made void.
    until: Duration,
    /// The group's list, once there is one.
    list: Option<Arc<List>>,
}

impl<T> Piece<T> {
    pub(crate) fn new(object: Object, cargo: T) -> Self {
        Self { object, cargo, level: 0, waits: None }
    }

    /// When the group that it waits for may be made void; on the clock that was given to [`Forming::claim`].
    pub(crate) fn overdue_at(&self) -> Option<Duration> {
        self.waits.as_ref().map(|wait| wait.until)
    }

    fn claim_name(&self) -> String {
        format!("_trailship/members/{}.{}", stem(&self.object.name), self.level)
    }
}

/// A group that is being put together: each of its pieces is claimed for it, or found to be another's.
pub(crate) struct Forming<T> {
    merge: Arc<dyn Merge>,
    /// The name of its object.
    group: String,
    pieces: Vec<(Piece<T>, Found)>,
}

/// Where a piece was found to belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Not known yet.
    Unknown,
    /// To this group.
    Here,
    /// To another, whose object is stored.
    Stored,
    /// To another without an object.
    Elsewhere,
}

/// What came of putting a group together.
pub(crate) struct Formed<T> {
    /// This group, and others that are rebuilt: to be stored.
    pub(crate) closed: Vec<Closed<T>>,
    /// Pieces that an object holds already.
    pub(crate) stored: Vec<Piece<T>>,
    /// Pieces that wait for another group.
    pub(crate) later: Vec<Piece<T>>,
}

impl<T> Forming<T> {
    /// A group of these pieces, all for one folder and no two of one name. Nobody ever makes up `id` again.
    pub(crate) fn new(merge: Arc<dyn Merge>, id: &str, pieces: Vec<Piece<T>>) -> Self {
        let first = pieces.first().map(|piece| piece.object.name.as_str()).unwrap_or_default();
        let (folder, file) = first.rsplit_once('/').unwrap_or(("", first));
        let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
        let group = format!("{folder}/merged-{id}.{extension}");
        Self { merge, group, pieces: pieces.into_iter().map(|piece| (piece, Found::Unknown)).collect() }
    }

    /// Its pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece<T>> {
        self.pieces.iter().map(|(piece, _)| piece)
    }

    /// Finds out for every piece where it belongs. After an error it goes on where it was.
    ///
    /// # Errors
    /// Those of the destination.
    pub(crate) async fn claim(&mut self, now: Duration) -> Result<(), StoreError> {
        self.find(now).await?;
        let overdue = self.overdue(now);
        for group in &overdue {
            // If somebody was quicker, with rows or without: that will be seen.
            self.merge.put_new(group, self.merge.void()).await?;
        }
        for (piece, found) in &mut self.pieces {
            let is_overdue = piece.waits.as_ref().is_some_and(|wait| overdue.contains(&wait.group));
            if *found == Found::Elsewhere && is_overdue {
                *found = Found::Unknown;
            }
        }
        self.find(now).await
    }

    /// The groups that have been waited for long enough, and cannot be rebuilt.
    fn overdue(&self, now: Duration) -> BTreeSet<String> {
        let complete = self.complete();
        let overdue = |wait: &&Wait| now >= wait.until && !complete.contains_key(&wait.group);
        self.waiting().map(|(_, wait)| wait).filter(overdue).map(|wait| wait.group.clone()).collect()
    }

    /// The pieces that are another group's, which has no object.
    fn waiting(&self) -> impl Iterator<Item = (&Piece<T>, &Wait)> {
        let elsewhere = self.pieces.iter().filter(|(_, found)| *found == Found::Elsewhere);
        elsewhere.filter_map(|(piece, _)| Some((piece, piece.waits.as_ref()?)))
    }

    /// The other groups of which all pieces are here, with their lists.
    fn complete(&self) -> BTreeMap<String, Arc<List>> {
        let mut here: BTreeMap<&str, (&Arc<List>, HashSet<&str>)> = BTreeMap::new();
        for (piece, wait) in self.waiting() {
            if let Some(list) = &wait.list {
                let (_, pieces) = here.entry(&wait.group).or_insert_with(|| (list, HashSet::new()));
                pieces.insert(stem(&piece.object.name));
            }
        }
        let all_here = |(list, pieces): &(&Arc<List>, HashSet<&str>)| {
            list.members.iter().all(|member| pieces.contains(member.piece.as_str()))
        };
        let complete = here.into_iter().filter(|(_, group)| all_here(group));
        complete.map(|(group, (list, _))| (group.to_owned(), Arc::clone(list))).collect()
    }

    async fn find(&mut self, now: Duration) -> Result<(), StoreError> {
        let until = now + self.merge.limits().patience;
        loop {
            let holders = self.claim_unknown().await?;
            if holders.is_empty() {
                return Ok(());
            }
            let mut fates = BTreeMap::new();
            for (_, group) in &holders {
                if !fates.contains_key(group) {
                    fates.insert(group.clone(), fate(&*self.merge, group).await?);
                }
            }
            for (at, group) in holders {
                if let (Some((piece, found)), Some(fate)) = (self.pieces.get_mut(at), fates.get(&group)) {
                    *found = piece.belongs(group, fate, until);
                }
            }
        }
    }

    /// Claims the pieces of which nothing is known for this group; gives those that another group has.
    async fn claim_unknown(&mut self) -> Result<Vec<(usize, String)>, StoreError> {
        let mut others = Vec::new();
        let claim = to_json(&Claim { v: 1, object: self.group.clone() })?;
        let unknown: Vec<usize> = (0..self.pieces.len())
            .filter(|&at| self.pieces.get(at).is_some_and(|(_, found)| *found == Found::Unknown))
            .collect();
        for some in unknown.chunks(CLAIMS_AT_ONCE) {
            let pieces = some.iter().filter_map(|&at| Some((at, &self.pieces.get(at)?.0)));
            let asked = pieces.map(async |(at, piece)| {
                let name = piece.claim_name();
                if self.merge.put_new(&name, claim.clone()).await? {
                    return Ok((at, self.group.clone()));
                }
                let held: Claim = read(&*self.merge, &name).await?.ok_or_else(|| vanished(&name))?;
                Ok((at, held.object))
            });
            for (at, group) in try_join_all(asked).await? {
                if group != self.group {
                    others.push((at, group));
                } else if let Some((_, found)) = self.pieces.get_mut(at) {
                    *found = Found::Here;
                }
            }
        }
        Ok(others)
    }

    /// What there is to store, to be told, and to wait for.
    pub(crate) fn formed(self) -> Formed<T> {
        let complete = self.complete();
        let mut rebuilt: BTreeMap<String, Vec<Piece<T>>> = BTreeMap::new();
        let mut formed = Formed { closed: Vec::new(), stored: Vec::new(), later: Vec::new() };
        let mut own = Vec::new();
        for (piece, found) in self.pieces {
            let group = piece.waits.as_ref().map(|wait| wait.group.clone());
            match (found, group) {
                (Found::Here, _) => own.push(piece),
                (Found::Stored, _) => formed.stored.push(piece),
                (_, Some(group)) if complete.contains_key(&group) => {
                    rebuilt.entry(group).or_default().push(piece);
                }
                _ => formed.later.push(piece),
            }
        }
        if !own.is_empty() {
            formed.closed.push(Closed::owned(Arc::clone(&self.merge), self.group, own));
        }
        for (group, list) in complete {
            let pieces = rebuilt.remove(&group).unwrap_or_default();
            formed.closed.push(Closed::rebuilt(Arc::clone(&self.merge), group, &list, pieces));
        }
        formed
    }
}

impl<T> Piece<T> {
    /// Where it belongs if a group has its claim at this level. If it begins to wait, it waits `until` then.
    fn belongs(&mut self, group: String, fate: &Fate, until: Duration) -> Found {
        match fate {
            Fate::Full(list) if list.has(self) => return Found::Stored,
            Fate::Open(list) if list.as_ref().is_none_or(|list| list.has(self)) => {
                let begun = self.waits.take().filter(|wait| wait.group == group);
                let until = begun.map_or(until, |wait| wait.until);
                self.waits = Some(Wait { group, until, list: list.clone() });
                return Found::Elsewhere;
            }
            Fate::Void | Fate::Full(_) | Fate::Open(_) => {}
        }
        self.level += 1;
        self.waits = None;
        Found::Unknown
    }
}

#[cfg(test)]
mod tests;
