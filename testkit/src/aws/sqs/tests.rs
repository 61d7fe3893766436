//! The rules of a queue, driven by hand.
