//! A group whose pieces are settled on: its list and its object are stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::records::{List, Member, damaged, list_name, read, stem, to_json, vanished};
use super::{Merge, Piece};
use crate::{Reason, ReasonCode, StoreError};

/// A group whose pieces are settled on: it is stored so, or never.
pub(crate) struct Closed<T> {
    merge: Arc<dyn Merge>,
    group: String,
    /// To be stored before the object; nothing where it is.
    list: Option<List>,
    pub(crate) pieces: Vec<Piece<T>>,
    /// Its object, once it is made.
    bytes: Option<Bytes>,
}

impl<T> Closed<T> {
    /// The group that these pieces were claimed for.
    pub(super) fn owned(merge: Arc<dyn Merge>, group: String, pieces: Vec<Piece<T>>) -> Self {
        let member = |piece: &Piece<T>| Member {
            piece: stem(&piece.object.name).to_owned(),
            events: piece.object.events.ranges().iter().map(|range| (range.start, range.end)).collect(),
        };
        let list = List { v: 1, object: group.clone(), members: pieces.iter().map(member).collect() };
        Self { merge, group, list: Some(list), pieces, bytes: None }
    }

    /// A group of somebody else, all pieces of whose list are here.
    pub(super) fn rebuilt(
        merge: Arc<dyn Merge>,
        group: String,
        list: &List,
        mut pieces: Vec<Piece<T>>,
    ) -> Self {
        let order: BTreeMap<&str, usize> =
            list.members.iter().enumerate().map(|(at, member)| (member.piece.as_str(), at)).collect();
        pieces.sort_by_key(|piece| order.get(stem(&piece.object.name)).copied());
        Self { merge, group, list: None, pieces, bytes: None }
    }

    /// Whether somebody else has made it up.
    #[cfg(test)]
    pub(super) fn is_rebuilt(&self) -> bool {
        self.list.is_none()
    }

    /// The name of its object.
    #[cfg(test)]
    pub(super) fn name(&self) -> &str {
        &self.group
    }

    /// What still has to be joined, and what joins it; `None` once [`joined`](Self::joined).
    pub(crate) fn to_join(&self) -> Option<(Arc<dyn Merge>, Vec<Bytes>)> {
        let bytes = || self.pieces.iter().map(|piece| piece.object.bytes.clone()).collect();
        self.bytes.is_none().then(|| (Arc::clone(&self.merge), bytes()))
    }

    /// Takes the object's bytes, and lets go of those of the pieces.
    pub(crate) fn joined(&mut self, bytes: Bytes) {
        self.bytes = Some(bytes);
        self.pieces.iter_mut().for_each(|piece| piece.object.bytes = Bytes::new());
    }

    /// Bytes of the object, once it is made.
    pub(crate) fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }

    /// Stores it; false if somebody has made it void: its pieces then belong into another.
    ///
    /// # Errors
    /// Those of the destination; it may be stored all the same.
    pub(crate) async fn store(&mut self) -> Result<bool, StoreError> {
        let Some(bytes) = self.bytes.clone() else {
            let why =
                Reason::new(ReasonCode::Other, "a group is stored before it is made: please report this");
            return Err(StoreError::Unavailable(why));
        };
        if let Some(list) = &self.list {
            let name = list_name(&self.group);
            if !self.merge.put_new(&name, to_json(list)?).await? {
                // An answer was lost; anything else would be a group of two owners.
                let there: List = read(&*self.merge, &name).await?.ok_or_else(|| vanished(&name))?;
                if there != *list {
                    return Err(damaged(&name, "it is not what this process has written"));
                }
            }
            self.list = None;
        }
        if self.merge.put_new(&self.group, bytes).await? {
            return Ok(true);
        }
        let start = self.merge.start(&self.group).await?.ok_or_else(|| vanished(&self.group))?;
        Ok(!self.merge.is_void(&start))
    }
}
