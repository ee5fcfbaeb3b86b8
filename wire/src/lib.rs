//! Frames on a byte stream: reading, writing, scanning.
