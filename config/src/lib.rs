//! What the operator wrote, checked. No sockets.
pub mod model;
pub use model::*;
