//! SQL PREPARE, EXECUTE and DEALLOCATE, and set_config, on a plain pool: what they leave in a session is the client's, not a
//! server's.
//!
//! Invariant: a name of PREPARE and a name of Parse are one name, as in PostgreSQL; the server knows the statement by pgherd's
//! name for it, under which it is shared like any other.

use std::rc::Rc;
use std::sync::Arc;

use pgherd_router::ShardId;
use pgherd_router::plan::{ConfigText, Kind, Statement, Template};
use pgherd_wire::message::{self, Report};

use super::link::{Expect, Unit};
use super::settings::Value;
use super::statements::{Prepared, ServerName};
use super::{End, LinkError, Session};

fn unknown(name: &str) -> Report {
    Report::error("26000", format!("prepared statement \"{name}\" does not exist"))
}

impl Session {
    /// PREPARE name [(types)] AS body
    pub(super) async fn prepare_by_sql(
        &mut self,
        text: &str,
        name: &str,
        types: &str,
        body: std::ops::Range<usize>,
    ) -> Result<Result<String, Report>, End> {
        if self.client.statements.contains_key(name.as_bytes()) {
            let why = format!("prepared statement \"{name}\" already exists");
            return Ok(Err(Report::error("42P05", why)));
        }
        let before = text.get(..body.start).map_or(0, |start| start.chars().count());
        let Some(body) = text.get(body) else {
            return Ok(Err(Report::error("XX000", "a PREPARE was misread")));
        };
        let prepared = self.worker.intern_declared(&self.reading(), types, body);
        let index = match self.link_for(ShardId(0)).await {
            Ok(index) => index,
            Err(LinkError::Refused(report)) => return Ok(Err(report)),
            Err(LinkError::End(end)) => return Err(end),
        };
        if let Err(mut report) = self.ensure(index, &prepared).await {
            let sent = prepared.declaration().map_or(0, |sql| sql.chars().count() - body.chars().count());
            report.shift_position(before as i64 - sent as i64);
            return Ok(Err(report));
        }
        self.client.statements.insert(name.as_bytes(), prepared);
        Ok(Ok("PREPARE".to_owned()))
    }

    /// A query with EXECUTE: sent on with the name that the server knows.
    pub(super) async fn execute_by_sql(
        &mut self,
        text: &str,
        template: &Template,
    ) -> Result<Result<(), Report>, End> {
        if self.links.iter().any(|l| l.unsynced) {
            let report =
                Report::error("0A000", "cannot run EXECUTE behind statements that were not synchronised")
                    .hint("Send Sync first.");
            return Ok(Err(report));
        }
        let sql = match self.executable(text, template).await? {
            Ok(sql) => sql,
            Err(report) => return Ok(Err(report)),
        };
        let Some(index) = self.links.iter().position(|l| l.shard == ShardId(0)) else {
            return Ok(Err(Report::error("XX000", "a server is missing")));
        };
        self.send_query(index, sql.as_bytes(), false, template.ddl);
        Ok(Ok(()))
    }

    /// The text of an EXECUTE as a server understands it that is held from now on, and knows the statement.
    pub(super) async fn executable(
        &mut self,
        text: &str,
        template: &Template,
    ) -> Result<Result<String, Report>, End> {
        let Kind::Execute { name, at } = &template.kind else { return Ok(Ok(text.to_owned())) };
        let Some(prepared) = self.client.statements.get(name.as_bytes()).cloned() else {
            return Ok(Err(unknown(name)));
        };
        let index = match self.link_for(ShardId(0)).await {
            Ok(index) => index,
            Err(LinkError::Refused(report)) => return Ok(Err(report)),
            Err(LinkError::End(end)) => return Err(end),
        };
        Ok(self.ensure(index, &prepared).await.map(|()| renamed(text, at, &prepared)))
    }

    /// The statement of a Parse whose text is an EXECUTE.
    pub(super) fn executing(
        &mut self,
        prepared: &Rc<Prepared>,
        name: &str,
        at: &std::ops::Range<u32>,
    ) -> Result<Rc<Prepared>, Report> {
        let Some(inner) = self.client.statements.get(name.as_bytes()).cloned() else {
            return Err(unknown(name));
        };
        let sql = renamed(&prepared.sql, at, &inner);
        let outer = self.worker.intern_text(&self.reading(), &sql, &prepared.types);
        let _ = outer.needs.set(inner);
        Ok(outer)
    }

    /// Makes the server know the statement before something of the client's is sent that needs it.
    async fn ensure(&mut self, index: usize, prepared: &Rc<Prepared>) -> Result<(), Report> {
        let max = self.pools.settings.statements_max;
        let link = &mut self.links[index];
        let state = &mut link.server.state;
        state.tick += 1;
        let tick = state.tick;
        if let Some(used) = state.prepared.get_mut(&prepared.id) {
            *used = tick;
            return Ok(());
        }
        let name = ServerName::of(prepared.id);
        if state.prepared.len() >= max
            && let Some((&oldest, _)) = state.prepared.iter().min_by_key(|(_, used)| **used)
        {
            state.prepared.remove(&oldest);
            message::close(&mut link.out, b'S', ServerName::of(oldest).as_bytes());
            // Its CloseComplete belongs to the unit below.
        }
        match prepared.declaration() {
            Some(sql) => {
                message::parse(&mut link.out, b"", sql.as_bytes(), &[]);
                // One of the same batch may be there still.
                message::close(&mut link.out, b'P', b"pgherd_prepare");
                message::bind(&mut link.out, b"pgherd_prepare", b"", &[], &[], &[]);
                message::execute(&mut link.out, b"pgherd_prepare", 0);
                // The transaction may come to prepare another one.
                message::close(&mut link.out, b'P', b"pgherd_prepare");
                link.server.state.unnamed = None;
            }
            None => message::parse(&mut link.out, name.as_bytes(), prepared.text(), &prepared.types),
        }
        link.out.extend_from_slice(message::SYNC);
        link.captured.begin();
        link.expects.push_back(Expect::Unit(Unit::Quiet));
        self.run_units(&[index]).await;
        let said = self.unit_result(index);
        self.purge_broken();
        said?;
        if let Some(link) = self.links.get_mut(index) {
            link.server.state.prepared.insert(prepared.id, tick);
        }
        Ok(())
    }

    /// set_config has succeeded on a server: from now on it goes with the client.
    pub(super) fn note_config(&mut self, calls: &[(ConfigText, ConfigText)], values: &[Option<&[u8]>]) {
        let mut next = (*self.settings).clone();
        let text = |argument: &ConfigText| match argument {
            ConfigText::Constant(text) => Some(text.clone()),
            ConfigText::Param(n) => {
                values.get(*n as usize).copied().flatten().map(|v| String::from_utf8_lossy(v).into_owned())
            }
        };
        for (name, value) in calls {
            if let (Some(name), Some(value)) = (text(name), text(value)) {
                next.put(&name.to_ascii_lowercase(), Value::Raw(value.into()));
            }
        }
        self.settings = Arc::new(next);
        match &mut self.block {
            Some(block) => block.settings_changed = true,
            None => {
                // Others, of a pinned client, get it before their next statement.
                for link in self.links.iter_mut().filter(|link| link.shard == ShardId(0)) {
                    link.server.state.settings = Some(self.settings.clone());
                }
            }
        }
    }

    /// set_config runs on the first shard: in a transaction that others have joined they would not have the setting.
    pub(super) fn refuses_config(&self) -> Option<Report> {
        let elsewhere = self.links.iter().any(|link| link.in_block && link.shard != ShardId(0));
        elsewhere.then(|| {
            Report::error("0A000", "cannot call set_config in a transaction on several shards")
                .hint("Use SET or SET LOCAL, or call it before the transaction.")
        })
    }
}

/// A string that prepares or executes by name, or calls set_config: each of its statements is looked at by itself.
pub(super) fn names(statements: &[Statement]) -> bool {
    statements
        .iter()
        .any(|s| matches!(s.template.kind, Kind::Prepare { .. } | Kind::Execute { .. } | Kind::SetConfig(_)))
}

/// The text with pgherd's name in the place of the client's.
fn renamed(text: &str, at: &std::ops::Range<u32>, prepared: &Prepared) -> String {
    let name = ServerName::of(prepared.id);
    let name = String::from_utf8_lossy(name.as_bytes());
    let (start, end) = (at.start as usize, at.end as usize);
    format!("{}{name}{}", text.get(..start).unwrap_or(""), text.get(end..).unwrap_or(""))
}
