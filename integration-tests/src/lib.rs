//! The program against real PostgreSQL servers and real drivers.
