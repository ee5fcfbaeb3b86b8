//! A worker: one thread with its own runtime, its clients, its buffers, its caches.
//!
//! Invariant: what is in here belongs to this thread alone; a client never leaves its worker once it was served.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use pgherd_router::Topology;
use pgherd_router::plan::Statement;
use pgherd_router::planner;
use pgherd_wire::message::ParseBody;

use crate::database::Database;
use crate::roster::Roster;
use crate::session::Luggage;
use crate::session::link::{BLOCK_BYTES, Spare};
use crate::session::settings::Settings;
use crate::session::statements::{Ids, Prepared, Statements};

/// Blocks kept for the next reader; beyond that they are freed.
const BLOCKS_MAX: usize = 64;

/// Links and portals that there is room for in what is kept.
const LUGGAGE_MAX: usize = 64;

pub struct Worker {
    pub id: usize,
    ids: Arc<Ids>,
    blocks: RefCell<Vec<Vec<u8>>>,
    spares: RefCell<Vec<Spare>>,
    scratches: RefCell<Vec<Vec<u8>>>,
    luggage: RefCell<Vec<Luggage>>,
    statements: RefCell<Statements>,
    templates: RefCell<HashMap<String, planner::Cache, foldhash::fast::RandomState>>,
    pub no_settings: Arc<Settings>,
    spare_statements: std::cell::Cell<Vec<Statement>>,
    pub roster: Rc<Roster>,
    turn: std::cell::Cell<usize>,
}

impl Worker {
    pub fn new(id: usize, ids: Arc<Ids>) -> Rc<Self> {
        Rc::new(Self {
            id,
            ids,
            blocks: RefCell::default(),
            spares: RefCell::default(),
            scratches: RefCell::default(),
            luggage: RefCell::default(),
            statements: RefCell::default(),
            templates: RefCell::default(),
            no_settings: Arc::default(),
            spare_statements: std::cell::Cell::default(),
            roster: Rc::default(),
            turn: std::cell::Cell::new(id),
        })
    }

    pub fn take_block(&self) -> Vec<u8> {
        self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; BLOCK_BYTES])
    }

    pub fn give_block(&self, block: Vec<u8>) {
        let mut blocks = self.blocks.borrow_mut();
        if block.len() == BLOCK_BYTES && blocks.len() < BLOCKS_MAX {
            blocks.push(block);
        }
    }

    /// Buffers for a link.
    pub fn take_spare(&self) -> Spare {
        self.spares.borrow_mut().pop().unwrap_or_else(|| Spare::new(self.take_block()))
    }

    pub fn give_spare(&self, spare: Spare) {
        let mut spares = self.spares.borrow_mut();
        if spare.block.len() == BLOCK_BYTES && spares.len() < BLOCKS_MAX {
            spares.push(spare);
        }
    }

    /// An empty buffer, for the body of a message or for what a client is owed.
    pub fn take_scratch(&self) -> Vec<u8> {
        self.scratches.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_scratch(&self, mut scratch: Vec<u8>) {
        scratch.clear();
        let mut scratches = self.scratches.borrow_mut();
        if scratch.capacity() > 0 && scratch.capacity() <= BLOCK_BYTES && scratches.len() < BLOCKS_MAX {
            scratches.push(scratch);
        }
    }

    pub fn take_luggage(&self) -> Luggage {
        self.luggage.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_luggage(&self, luggage: Luggage) {
        let mut kept = self.luggage.borrow_mut();
        let small = luggage.links.capacity() <= LUGGAGE_MAX && luggage.portals.capacity() <= LUGGAGE_MAX;
        if small && luggage.links.capacity() > 0 && kept.len() < BLOCKS_MAX {
            kept.push(luggage);
        }
    }

    pub fn topology(&self, db: &Database) -> Arc<Topology> {
        db.topology()
    }

    pub fn version_of(&self, topology: &Topology) -> u64 {
        topology.version
    }

    pub fn analyze(&self, topology: &Topology, sql: &str) -> Vec<Statement> {
        let mut statements = self.spare_statements.take();
        let mut templates = self.templates.borrow_mut();
        match templates.get_mut(&topology.database) {
            Some(cache) => cache.analyze_into(topology, sql, &mut statements),
            None => {
                let cache = templates.entry(topology.database.clone()).or_default();
                cache.analyze_into(topology, sql, &mut statements);
            }
        }
        statements
    }

    /// What [`Self::analyze`] gave, to be filled again.
    pub fn give_statements(&self, statements: Vec<Statement>) {
        self.spare_statements.set(statements);
    }

    pub fn intern(&self, reading: &[u8], tail: &[u8], parse: &ParseBody<'_>) -> Rc<Prepared> {
        self.statements.borrow_mut().intern(&self.ids, reading, tail, parse)
    }

    pub fn intern_declared(&self, reading: &[u8], types: &str, body: &str) -> Rc<Prepared> {
        self.statements.borrow_mut().intern_declared(&self.ids, reading, types, body)
    }

    pub fn intern_text(&self, reading: &[u8], sql: &str, types: &[u32]) -> Rc<Prepared> {
        self.statements.borrow_mut().intern_text(&self.ids, reading, sql, types)
    }

    /// The next of `n` in turn.
    pub fn turn(&self, n: usize) -> usize {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        turn % n
    }
}
