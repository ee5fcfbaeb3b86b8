//! COPY FROM STDIN into a table on several shards: rows go to their shards as they come.
//!
//! Invariant: memory is one partial row and what waits for a slow shard, both bounded; an error on any side
//! ends the COPY on every shard, and the client's late CopyData is swallowed.

use pgherd_router::copy::{Splitter, Target};
use pgherd_router::plan::CopyPlan;
use pgherd_wire::message::{self, Report};

use super::client::Incoming;
use super::fan::Via;
use super::link::{Expect, Unit};
use super::query::refused;
use super::{End, Session};

/// CopyData messages to a shard are about this long.
const COPY_CHUNK_BYTES: usize = 32 * 1024;

/// Bytes waiting for one shard beyond which the client is not read.
const COPY_BACKLOG_BYTES: usize = 256 * 1024;

/// How the client ended its stream.
enum Ended {
    Done,
    Failed(String),
}

impl Session {
    /// Runs the COPY on the shards that take part, which are joined already.
    pub(super) async fn copy_from(
        &mut self,
        text: &str,
        plan: &CopyPlan,
        via: &Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        let extended = !matches!(via, Via::Simple);
        let indices: Vec<usize> =
            plan.shards.iter().filter_map(|s| self.links.iter().position(|l| l.shard == *s)).collect();
        for &i in &indices {
            let link = &mut self.links[i];
            *link.captured = super::link::Captured { used: true, ..Default::default() };
            message::query(&mut link.out, text);
            link.server.state.unnamed = None;
            link.expects.push_back(Expect::Unit(Unit::Quiet));
        }
        // Every shard must be ready for rows before the client is asked for them.
        self.until_copy_in(&indices).await;
        if let Some(report) = self.copy_error(&indices) {
            self.abandon_copy(&indices).await;
            return Ok(Err(report));
        }
        let Some((b'G', body)) = self.links[indices[0]].captured.copy.clone() else {
            self.abandon_copy(&indices).await;
            return Ok(Err(Report::error("08P01", "a shard did not start the COPY")));
        };
        self.client.say(|o| message::frame(o, b'G', |o| o.extend_from_slice(&body)));

        let topology = self.topology();
        let mut splitter = plan.rows.as_ref().map(|rows| Splitter::new(rows, &topology));
        let mut chunks: Vec<Vec<u8>> = vec![Vec::new(); indices.len()];
        let places: Vec<_> = plan.shards.clone();
        let mut failure: Option<Report> = None;
        let ended = loop {
            match self.client.incoming() {
                Ok(Incoming::CopyBytes) => {
                    self.client.copy_bytes(|bytes| {
                        if failure.is_some() {
                            return;
                        }
                        let result = match &mut splitter {
                            Some(splitter) => splitter
                                .push(bytes, &mut |target, rows| put(&mut chunks, &places, target, rows)),
                            None => {
                                put(&mut chunks, &places, Target::All, bytes);
                                Ok(())
                            }
                        };
                        failure = result.err().map(refused);
                    });
                    for (n, chunk) in chunks.iter_mut().enumerate() {
                        if chunk.len() >= COPY_CHUNK_BYTES {
                            message::copy_data(&mut self.links[indices[n]].out, chunk);
                            chunk.clear();
                        }
                    }
                }
                Ok(Incoming::Frame(head)) => {
                    let mut body = Vec::new();
                    self.client.take(head, &mut body);
                    match head.kind {
                        b'c' => break Ended::Done,
                        b'f' => {
                            let why = body.split(|&b| b == 0).next().unwrap_or_default();
                            break Ended::Failed(String::from_utf8_lossy(why).into_owned());
                        }
                        // Sync and Flush during COPY are read and ignored, as PostgreSQL does.
                        b'S' | b'H' => {}
                        other => {
                            self.abandon_copy(&indices).await;
                            let why = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                            let report = Report::error("08P01", why);
                            self.client.say(|o| report.write(o));
                            let why = "terminating connection because protocol synchronization was lost";
                            self.fatal(Report::fatal("08P01", why))?;
                        }
                    }
                }
                Ok(Incoming::Nothing) => {
                    failure = failure.or_else(|| self.copy_error(&indices));
                    if failure.is_some() && !extended {
                        // Said at once; what the client still sends is swallowed when it comes.
                        break Ended::Done;
                    }
                    if failure.is_some() {
                        break Ended::Done;
                    }
                    if self.client.eof || self.client.gone {
                        self.abandon_copy(&indices).await;
                        return Err(End::Client);
                    }
                    self.copy_pump(&indices).await;
                }
                Err(lie) => {
                    self.abandon_copy(&indices).await;
                    let why = format!("invalid message length {}", lie.length as i32);
                    self.fatal(Report::fatal("08P01", why))?;
                }
            }
            if indices.iter().any(|&i| self.links[i].pending_out() > COPY_BACKLOG_BYTES) {
                self.copy_drain(&indices).await;
                failure = failure.or_else(|| self.copy_error(&indices));
                if failure.is_some() {
                    break Ended::Done;
                }
            }
        };
        if let Some(report) = failure {
            self.abandon_copy(&indices).await;
            return Ok(Err(report));
        }
        if let Ended::Failed(why) = ended {
            for &i in &indices {
                message::copy_fail(&mut self.links[i].out, &why);
            }
            self.run_units(&indices).await;
            let report = indices.iter().find_map(|&i| self.unit_result(i).err());
            return Ok(Err(report.unwrap_or_else(|| Report::error("57014", "COPY from stdin failed"))));
        }
        if let Some(splitter) = &mut splitter
            && let Err(refusal) = splitter.finish(&mut |target, rows| put(&mut chunks, &places, target, rows))
        {
            self.abandon_copy(&indices).await;
            return Ok(Err(refused(refusal)));
        }
        for (n, chunk) in chunks.iter().enumerate() {
            let link = &mut self.links[indices[n]];
            if !chunk.is_empty() {
                message::copy_data(&mut link.out, chunk);
            }
            link.out.extend_from_slice(message::COPY_DONE);
        }
        self.run_units(&indices).await;
        let mut rows = 0u64;
        let mut result = Ok(());
        for &i in &indices {
            match self.unit_result(i) {
                Ok(tag) => {
                    let count =
                        tag.as_deref().and_then(|t| t.rsplit(' ').next()).and_then(|n| n.parse::<u64>().ok());
                    rows = if plan.rows.is_some() { rows + count.unwrap_or(0) } else { count.unwrap_or(0) };
                }
                Err(report) if result.is_ok() => result = Err(report),
                Err(_) => {}
            }
        }
        Ok(result.map(|()| format!("COPY {rows}")))
    }

    /// Waits until every shard said CopyInResponse, or failed.
    async fn until_copy_in(&mut self, indices: &[usize]) {
        std::future::poll_fn(|cx| {
            loop {
                let mut progress = self.client.poll_flush(cx);
                let mut waiting = false;
                for &i in indices {
                    let link = &mut self.links[i];
                    progress |= link.poll_flush(cx);
                    progress |= link.poll_take(cx, &mut self.client);
                    waiting |= link.broken.is_none() && !link.quiet() && link.captured.copy.is_none();
                }
                if !waiting {
                    return std::task::Poll::Ready(());
                }
                if !progress {
                    return std::task::Poll::Pending;
                }
            }
        })
        .await;
    }

    /// An error that a shard has said already.
    fn copy_error(&self, indices: &[usize]) -> Option<Report> {
        indices.iter().find_map(|&i| {
            let link = &self.links[i];
            if let Some(broken) = &link.broken {
                return Some(self.lost_report(link.shard, broken));
            }
            link.captured.error.as_ref().map(|body| Report::read_whole(body))
        })
    }

    /// Reads from the client, writes to the shards, hears them.
    async fn copy_pump(&mut self, indices: &[usize]) {
        std::future::poll_fn(|cx| {
            let mut progress = self.client.poll_flush(cx);
            progress |= self.client.poll_fill(cx);
            for &i in indices {
                progress |= self.links[i].poll_flush(cx);
                progress |= self.links[i].poll_take(cx, &mut self.client);
            }
            if progress || self.client.gone { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Waits until the shards have taken most of what waits for them.
    async fn copy_drain(&mut self, indices: &[usize]) {
        std::future::poll_fn(|cx| {
            loop {
                let mut progress = self.client.poll_flush(cx);
                let mut full = false;
                for &i in indices {
                    let link = &mut self.links[i];
                    progress |= link.poll_flush(cx);
                    progress |= link.poll_take(cx, &mut self.client);
                    full |= link.broken.is_none()
                        && link.captured.error.is_none()
                        && link.pending_out() > COPY_BACKLOG_BYTES / 4;
                }
                if !full {
                    return std::task::Poll::Ready(());
                }
                if !progress {
                    return std::task::Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Ends the COPY on every shard without keeping its rows.
    async fn abandon_copy(&mut self, indices: &[usize]) {
        for &i in indices {
            let link = &mut self.links[i];
            if !link.expects.is_empty() && link.captured.copy.is_some() && link.captured.error.is_none() {
                message::copy_fail(&mut link.out, "another shard or pgherd ended the COPY");
            }
        }
        self.run_units(indices).await;
    }
}

fn put(chunks: &mut [Vec<u8>], places: &[pgherd_router::ShardId], target: Target, rows: &[u8]) {
    match target {
        Target::All => chunks.iter_mut().for_each(|c| c.extend_from_slice(rows)),
        Target::Shard(shard) => {
            if let Ok(n) = places.binary_search(&shard) {
                chunks[n].extend_from_slice(rows);
            }
        }
    }
}
