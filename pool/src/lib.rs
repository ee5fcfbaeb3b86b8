//! Server connections: open, authenticate, lend, watch, hand back.
