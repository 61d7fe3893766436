//! What stands at the names by which pieces are claimed and groups are listed.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Merge, Piece};
use crate::{Reason, ReasonCode, StoreError};

/// What stands at the name of a claim.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) v: u32,
    /// The group's object.
    pub(super) object: String,
}

/// What stands at the name of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) v: u32,
    pub(super) object: String,
    /// The pieces in the order of their rows.
    pub(super) members: Vec<Member>,
}

/// A piece in a list. Its name is a hash of bucket, key, and the position and bytes of each of its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) piece: String,
    /// The positions of its events in the log file: for people.
    pub(super) events: Vec<(u64, u64)>,
}

impl List {
    /// Whether a piece is in it.
    pub(super) fn has<T>(&self, piece: &Piece<T>) -> bool {
        let name = stem(&piece.object.name);
        self.members.iter().any(|member| member.piece == name)
    }
}

/// How things stand with another group.
pub(super) enum Fate {
    Void,
    Full(Arc<List>),
    /// No object yet, and perhaps a list.
    Open(Option<Arc<List>>),
}

/// How things stand with a group.
pub(super) async fn fate(merge: &dyn Merge, group: &str) -> Result<Fate, StoreError> {
    let start = merge.start(group).await?;
    if start.as_ref().is_some_and(|start| merge.is_void(start)) {
        return Ok(Fate::Void);
    }
    let name = list_name(group);
    let list = read::<List>(merge, &name).await?.map(Arc::new);
    match (start, list) {
        (Some(_), Some(list)) => Ok(Fate::Full(list)),
        (Some(_), None) => Err(damaged(&name, &format!("it is gone, while {group} is there"))),
        (None, list) => Ok(Fate::Open(list)),
    }
}

pub(super) async fn read<D: for<'de> Deserialize<'de>>(
    merge: &dyn Merge,
    name: &str,
) -> Result<Option<D>, StoreError> {
    let Some(bytes) = merge.get(name).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        StoreError::Unavailable(Reason::new(ReasonCode::Garbled, format!("{name} cannot be read: {error}")))
    })
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Bytes, StoreError> {
    let json = serde_json::to_vec(value).map(Bytes::from);
    json.map_err(|error| StoreError::Unavailable(Reason::new(ReasonCode::Other, error.to_string())))
}

/// There a moment ago, and gone: it may be looked at again.
pub(super) fn vanished(name: &str) -> StoreError {
    StoreError::Unavailable(Reason::new(
        ReasonCode::Garbled,
        format!("{name} was there, and is not any more"),
    ))
}

pub(super) fn damaged(name: &str, what: &str) -> StoreError {
    let text = format!("{name}: {what}: nobody but trailship may write or delete below `_trailship/`");
    StoreError::Denied(Reason::new(ReasonCode::Misconfigured, text))
}

/// The name of a group's list, by that of its object.
pub(super) fn list_name(group: &str) -> String {
    format!("_trailship/groups/{}.json", stem(group))
}

/// A name without folders and extension.
pub(super) fn stem(name: &str) -> &str {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}
