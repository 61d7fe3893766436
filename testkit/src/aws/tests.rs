//! Requests over plain HTTP, and what comes back.
