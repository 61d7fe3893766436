//! A load balancer before several indexers: sticky by cookie, or blind.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::Request;

/// What stands before the indexers. Each indexer knows only the acknowledgements of what it was sent itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Nothing: there is one indexer.
    #[default]
    None,
    /// One that gives each sender without its cookie the next of so many indexers, and then keeps it there.
    Sticky(usize),
    /// One that gives each request the next of so many indexers.
    Blind(usize),
}

impl Balancer {
    pub(super) fn indexers(self) -> usize {
        match self {
            Self::None => 1,
            Self::Sticky(count) | Self::Blind(count) => count.max(1),
        }
    }

    /// The indexer of a request, and the header `Set-Cookie` of its answer.
    pub(super) fn choose(self, request: &Request, turn: &AtomicUsize) -> (usize, Option<String>) {
        let next = || turn.fetch_add(1, Ordering::Relaxed) % self.indexers();
        match self {
            Self::None => (0, None),
            Self::Blind(_) => (next(), None),
            Self::Sticky(count) => match cookie(request).filter(|&indexer| indexer < count) {
                Some(indexer) => (indexer, None),
                None => {
                    let indexer = next();
                    (indexer, Some(format!("{COOKIE}={indexer}; Path=/; HttpOnly")))
                }
            },
        }
    }
}

const COOKIE: &str = "indexer";

fn cookie(request: &Request) -> Option<usize> {
    let pairs = request.header("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).find_map(|(_, value)| value.parse().ok())
}
