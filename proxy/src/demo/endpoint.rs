//! pgherd in front of a herd, as a process of its own: the same program, `serve FILE`.
//!
//! Invariant: the process ends with the [`Endpoint`], and with us (see `servers`).
//!
//! Not here: what is in the file (`tables`).

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::servers::{APP_ROLE, Herd, leashed, send, tail};
use super::{Failure, Interrupt};

/// Opening its pools and writing the catalog.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(30);

/// What transactions of whoever tries it have to end by themselves; then their clients are sent away.
const TIME_TO_END: Duration = Duration::from_secs(3);

const STOPPED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Endpoint {
    process: Child,
    url: String,
    configuration: PathBuf,
    log: PathBuf,
}

impl Endpoint {
    /// A port for the endpoint: the one asked for, or any free one for 0.
    ///
    /// # Errors
    /// [`Failure::PortTaken`]. Asked before anything is started, so that it is the first thing a user hears.
    pub fn choose_port(port: u16) -> Result<u16, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let address = listener.and_then(|listener| listener.local_addr());
        address.map(|address| address.port()).map_err(|source| Failure::PortTaken { port, source })
    }

    /// Serves `configuration` (which listens on `port`) and returns when a client got its first answer.
    ///
    /// # Errors
    /// [`Failure::Endpoint`] with the end of pgherd's log.
    pub fn start(
        herd: &Herd,
        port: u16,
        configuration: &str,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let file = herd.folder().join("pgherd.toml");
        let log = herd.folder().join("pgherd.log");
        fs::write(&file, configuration)?;
        let output = File::create(&log)?;

        let mut command = leashed("KILL", std::env::current_exe()?);
        command.arg("serve").arg(&file).envs(herd.env());
        command.stdout(output.try_clone()?).stderr(output);
        let process = herd.keeper().spawn(command)?;

        let (password, database) = (&herd.options().app_password, &herd.options().database);
        let url = format!("postgres://{APP_ROLE}:{password}@127.0.0.1:{port}/{database}");
        let mut endpoint = Self { process, url, configuration: file, log };
        endpoint.wait_until_it_answers(herd, interrupt)?;
        Ok(endpoint)
    }

    /// As the application.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// # Errors
    /// When pgherd has ended, with the end of its log.
    pub fn still_runs(&mut self) -> Result<(), Failure> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failure(format!("pgherd ended by itself ({status})"))),
        }
    }

    fn wait_until_it_answers(&mut self, herd: &Herd, interrupt: &Interrupt) -> Result<(), Failure> {
        let deadline = Instant::now() + ACCEPTS_WITHIN;
        loop {
            interrupt.check()?;
            self.still_runs()?;
            match herd.psql_at(&self.url, "SELECT 1") {
                Ok(answer) if answer == "1" => return Ok(()),
                Ok(answer) => return Err(self.failure(format!("SELECT 1 was answered with {answer:?}"))),
                Err(error) if Instant::now() >= deadline => {
                    return Err(
                        self.failure(format!("no answer after {} s: {error}", ACCEPTS_WITHIN.as_secs()))
                    );
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn failure(&self, what: String) -> Failure {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        Failure::Endpoint { what, log: tail(&log) }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            send(self.process.id(), libc::SIGTERM);
        }
        let begun = Instant::now();
        let mut again = false;
        while matches!(self.process.try_wait(), Ok(None)) && begun.elapsed() < STOPPED_WITHIN {
            if !again && begun.elapsed() > TIME_TO_END {
                send(self.process.id(), libc::SIGTERM);
                again = true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
