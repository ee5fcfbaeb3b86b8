//! Called as `pgbouncer`, the program takes PgBouncer's flags, so that a service file needs only another binary.
//!
//! Invariant: nothing is forked. Another user, or the background, is a new process of the same program with what is left of
//! the flags.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

/// pgherd, called as pgbouncer
#[derive(Parser)]
#[command(name = "pgbouncer", disable_version_flag = true)]
struct Flags {
    /// Run in the background, with the log in logfile
    #[arg(short = 'd', long)]
    daemon: bool,
    /// Take over from the process that pidfile names: start beside it, then tell it to stop
    #[arg(short = 'R', long)]
    reboot: bool,
    /// Run as this user
    #[arg(short = 'u', long)]
    user: Option<String>,
    /// Log warnings and errors only
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Log more
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say the version and end
    #[arg(short = 'V', long)]
    version: bool,
    /// pgbouncer.ini
    file: Option<PathBuf>,
}

/// Whether the program was started under PgBouncer's name.
pub fn is_meant() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == "pgbouncer")
}

pub fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.version {
        println!("PgBouncer {}", crate::console::VERSION);
        println!("pgherd {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let Some(file) = flags.file.clone() else {
        eprintln!("Need config file.  See pgbouncer -h for usage.");
        return ExitCode::FAILURE;
    };
    match run(&flags, &file) {
        Ok(status) => status,
        Err(why) => {
            eprintln!("pgbouncer: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, file: &Path) -> Result<ExitCode, String> {
    if let Some(user) = &flags.user {
        let (uid, gid) = account(user)?;
        return Err(again(flags, file, false)?.uid(uid).gid(gid).exec().to_string());
    }
    let config = pgherd_config::load(file).map_err(|problems| problems.to_string())?;
    let written = |key| pgherd_config::pgbouncer::written(file, key).map(PathBuf::from);
    if flags.daemon {
        let mut command = again(flags, file, true)?;
        let log = match written("logfile") {
            Some(path) => {
                let log = fs::OpenOptions::new().create(true).append(true).open(&path);
                Stdio::from(log.map_err(|e| format!("{}: {e}", path.display()))?)
            }
            None => Stdio::null(),
        };
        // Signals of the terminal are not meant for it any more.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        spawned.map_err(|e| format!("cannot start in the background: {e}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    crate::cli::log_to_stderr(match (flags.quiet, flags.verbose) {
        (true, _) => "warn",
        (false, 0) => "info,tokio_postgres=warn",
        (false, _) => "debug",
    });
    let pidfile = written("pidfile");
    let before = pidfile.as_ref().and_then(|path| fs::read_to_string(path).ok());
    let before = before.and_then(|text| text.trim().parse::<u32>().ok());
    if flags.reboot && before.is_none() {
        return Err("cannot reboot: no process is named by pidfile".into());
    }
    let serving = || {
        if let Some(path) = &pidfile
            && let Err(e) = fs::write(path, format!("{}\n", std::process::id()))
        {
            tracing::warn!(file = %path.display(), error = %e, "pidfile cannot be written");
        }
        if let (true, Some(before)) = (flags.reboot, before) {
            tracing::info!(process = before, "telling the process before to stop");
            let _ = Command::new("kill").arg("-TERM").arg(before.to_string()).status();
        }
    };
    let outcome = crate::serve::serve_and(config, file, flags.reboot, serving);
    // Only our own: by now it may be that of the next.
    if let Some(path) = &pidfile
        && fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string())
    {
        let _ = fs::remove_file(path);
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The same program with the flags that are left.
fn again(flags: &Flags, file: &Path, in_background: bool) -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|e| format!("the program cannot find itself: {e}"))?;
    let mut command = Command::new(own);
    command.arg0("pgbouncer");
    let mut arguments: Vec<OsString> = Vec::new();
    for (flag, set) in [
        ("-d", flags.daemon && !in_background),
        ("-R", flags.reboot),
        ("-q", flags.quiet),
        ("-v", flags.verbose > 0),
    ] {
        if set {
            arguments.push(flag.into());
        }
    }
    command.args(arguments).arg(file);
    Ok(command)
}

/// Numbers of a user and its group.
fn account(user: &str) -> Result<(u32, u32), String> {
    let text = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (name == user).then_some((uid, gid))
    };
    text.lines().find_map(of_line).ok_or_else(|| format!("no such user: {user}"))
}
