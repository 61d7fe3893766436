//! What an operator can observe.
