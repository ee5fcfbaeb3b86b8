//! Other clients of the same pool, with settings that nobody else wants.
//!
//! Invariant: they hold a server only for a transaction, and end with the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio_postgres::{Error, NoTls};

const CLIENTS: usize = 2;

/// Between two transactions: short, so that a server is seldom given back to the client that had it last.
const PAUSE: Duration = Duration::from_millis(2);

const SETTINGS: &str =
    "SET TimeZone TO 'Asia/Kathmandu'; SET DateStyle TO 'German'; SET extra_float_digits TO -7;
    SET search_path TO nowhere; SET application_name TO 'noise'; SET IntervalStyle TO 'sql_standard';
    SET bytea_output TO 'escape'; SET work_mem TO '77kB'; SET lock_timeout TO '4s'; SET row_security TO off";

pub struct Noise {
    over: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Noise {
    /// Through pgherd on this port.
    pub fn start(port: u16, database: &str, password: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let target = format!(
            "host=127.0.0.1 port={port} user=app password={password} dbname={database} connect_timeout=30"
        );
        let clients = (0..CLIENTS)
            .map(|_| {
                let (over, target) = (over.clone(), target.clone());
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let Ok(runtime) = runtime else { return };
                    // A program may keep both servers for longer than a client waits: then it goes on without noise.
                    let _ = runtime.block_on(make(&target, &over));
                })
            })
            .collect();
        Self { over, clients }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

async fn make(target: &str, over: &AtomicBool) -> Result<(), Error> {
    let (mut client, connection) = tokio_postgres::connect(target, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(SETTINGS).await?;
    let text = client.prepare("SELECT current_setting('application_name'), $1::text").await?;
    while !over.load(Ordering::Relaxed) {
        let transaction = client.transaction().await?;
        transaction.query(&text, &[&"noise"]).await?;
        transaction.batch_execute("SET LOCAL enable_seqscan TO off; SAVEPOINT s; RELEASE s").await?;
        transaction.commit().await?;
        let row = client.query_one(&text, &[&"more"]).await?;
        assert_eq!(row.get::<_, &str>(0), "noise");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
