//! Everything the agent talks to, standing in for it, and the ports for a simulation.

pub mod ports;
