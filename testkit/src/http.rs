//! The small HTTP server under every stand-in: whole requests in, whole answers out, and transport faults on demand.

mod body;
mod message;
mod server;

pub use body::Fault;
pub use message::{Request, Response, inflate, percent_decode, percent_encode};
pub use server::{Handler, Server, ServerOptions, serve_connection};

#[cfg(test)]
mod tests;
