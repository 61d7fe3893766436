//! Names of headers that a configuration chooses.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names that were asked for. They live as long as the process: there are as many as configurations name, and a head
/// is made for every request.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The same name for as long as the process lives; `None` if no header can have it.
pub(super) fn intern(name: &str) -> Option<&'static str> {
    ::http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once() {
        let (first, again) = (intern("x-tenant"), intern("x-tenant"));
        assert_eq!(first, Some("x-tenant"));
        assert_eq!(first.map(str::as_ptr), again.map(str::as_ptr));
        assert_eq!((intern("x tenant"), intern(""), intern("x:y")), (None, None, None));
    }
}
