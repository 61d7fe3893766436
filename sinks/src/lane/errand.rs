//! What a lane that stores objects has to do with its store: each is tried again until it is done.

use std::sync::Arc;

use super::objects::ObjectCourier;
use super::pass::{Cargo, Ready};
use crate::merge::{Closed, Forming, Piece};
use crate::ports::run_on;
use crate::settle::{Outcome, Owed};
use crate::{Object, Reason, ReasonCode, StoreError};

/// One thing to do.
pub(super) enum Errand {
    /// Store an object.
    Store(Ready),
    /// Put a group together.
    Form(Forming<Cargo>),
    /// Store a group; true once that is found to be impossible.
    Put(Closed<Cargo>, bool),
}

/// What is to be done after an errand.
#[derive(Default)]
pub(super) struct Follow {
    pub(super) errands: Vec<Errand>,
    /// Pieces to be tried again in another group.
    pub(super) later: Vec<Piece<Cargo>>,
}

impl Errand {
    /// Tries once.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn attempt(&mut self, courier: &ObjectCourier) -> Result<(), StoreError> {
        match self {
            Self::Store(ready) => courier.sink.store(&ready.object).await,
            Self::Form(forming) => forming.claim(courier.clock.monotonic()).await,
            Self::Put(closed, is_void) => {
                join(closed, courier).await?;
                *is_void = !closed.store().await?;
                Ok(())
            }
        }
    }

    /// Settles what is done; gives what is to be done next.
    pub(super) fn done(self, courier: &ObjectCourier) -> Follow {
        match self {
            Self::Store(ready) => settle(courier, [(ready.object, ready.cargo)], Outcome::Delivered),
            Self::Form(forming) => {
                let formed = forming.formed();
                settle(courier, parts(formed.stored), Outcome::Duplicate);
                let errands = formed.closed.into_iter().map(|closed| Self::Put(closed, false)).collect();
                return Follow { errands, later: formed.later };
            }
            Self::Put(closed, false) => settle(courier, parts(closed.pieces), Outcome::Delivered),
            // Its events are released: their log files are read again, and find another group.
            Self::Put(_, true) => {}
        }
        Follow::default()
    }

    /// How many events wait for it.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Store(ready) => ready.cargo.duties.len(),
            Self::Form(forming) => forming.pieces().map(|piece| piece.cargo.duties.len()).sum(),
            Self::Put(closed, _) => closed.pieces.iter().map(|piece| piece.cargo.duties.len()).sum(),
        }
    }

    /// Bytes of the object that it has stored, if it stores one.
    pub(super) fn stored_bytes(&self) -> Option<usize> {
        match self {
            Self::Store(ready) => Some(ready.object.bytes.len()),
            Self::Put(closed, _) => Some(closed.len()),
            Self::Form(_) => None,
        }
    }
}

fn parts(pieces: Vec<Piece<Cargo>>) -> impl Iterator<Item = (Object, Cargo)> {
    pieces.into_iter().map(|piece| (piece.object, piece.cargo))
}

fn settle(courier: &ObjectCourier, parts: impl IntoIterator<Item = (Object, Cargo)>, outcome: Outcome) {
    for (object, Cargo { duties, via, .. }) in parts {
        courier.health.note_accepted(duties.len() as u64, courier.clock.now());
        if outcome == Outcome::Delivered {
            courier.observer.stored(via, &object.times);
        }
        Owed::settle_all(duties.into_iter().map(|duty| (duty, outcome)));
    }
}

/// Makes the object of a group, unless it is made, and lets go of its pieces' bytes.
async fn join(closed: &mut Closed<Cargo>, courier: &ObjectCourier) -> Result<(), StoreError> {
    let Some((merge, parts)) = closed.to_join() else { return Ok(()) };
    let merge = Arc::clone(&merge);
    let joined = run_on(&*courier.compute, move || merge.join(&parts)).await;
    let died = || Reason::new(ReasonCode::Other, "a worker died on a group: please report this");
    let bytes = joined.unwrap_or_else(|| Err(died())).map_err(StoreError::Unavailable)?;
    let held = bytes.len() as u64;
    closed.joined(bytes);
    for (number, piece) in closed.pieces.iter_mut().enumerate() {
        piece.cargo.held.set(if number == 0 { held } else { 0 });
    }
    Ok(())
}
