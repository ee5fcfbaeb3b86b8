//! SQL text + placement -> plan. Pure: no I/O, no clock, no async runtime.
