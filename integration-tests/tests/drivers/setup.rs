//! Installs what the programs run on, once, into a folder under `target/drivers/`.
//!
//! Invariant: a folder with the mark of its pinned versions is complete; without network, and without a tool, there is a
//! reason and no driver. Nothing is installed outside that folder.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// What a program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// PostgreSQL's own programs.
    Shell,
    Python,
    Node,
    Java,
    /// libpq by itself: its headers (Debian's libpq-dev) and a compiler.
    C,
    /// Debian's golang-go with golang-github-lib-pq-dev and golang-github-jackc-pgx-v4-dev.
    Go,
    /// Debian's ruby-pg.
    Ruby,
    /// Debian's php-cli and php-pgsql.
    Php,
    /// A program of this package.
    Rust,
}

/// Where Debian's packages have the sources of Go's libraries.
const GO_SOURCES: &str = "/usr/share/gocode";

/// The JDBC driver's package in Debian and its offspring.
const JDBC_PACKAGE: &str = "libpostgresql-jdbc-java";

/// A download that takes longer is given up.
const INSTALL_MAX: Duration = Duration::from_secs(240);

pub struct Setup {
    sources: PathBuf,
    cache: PathBuf,
    installed: Mutex<Vec<(Tool, &'static OnceLock<Result<String, String>>)>>,
}

impl Setup {
    pub fn new(sources: &Path) -> Self {
        // target/debug/deps/drivers-1234 -> target/drivers
        let own = std::env::current_exe().expect("a test knows its own path");
        let target = own.ancestors().nth(3).expect("target/<profile>/deps");
        let setup =
            Self { sources: sources.into(), cache: target.join("drivers"), installed: Mutex::default() };
        let _ = fs::remove_dir_all(setup.cache.join("output"));
        setup
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.cache.join(name);
        fs::create_dir_all(&folder).expect("target/ can be written");
        folder
    }

    /// The version, or why the tool's drivers cannot be had. Asked by many, it is done once.
    pub fn install(&self, tool: Tool) -> Result<String, String> {
        let once = {
            let mut installed = self.installed.lock().expect("nobody panics with it");
            match installed.iter().find(|(known, _)| *known == tool) {
                Some((_, once)) => once,
                None => {
                    let once: &'static OnceLock<_> = Box::leak(Box::default());
                    installed.push((tool, once));
                    once
                }
            }
        };
        once.get_or_init(|| match tool {
            Tool::Shell => said("psql", &["--version"]),
            Tool::Python => self.python(),
            Tool::Node => self.node(),
            Tool::Java => self.java(),
            Tool::C => self.c(),
            Tool::Go => self.go(),
            Tool::Ruby => {
                said("ruby", &["-e", "require 'pg'; puts \"pg #{PG::VERSION}, ruby #{RUBY_VERSION}\""])
            }
            Tool::Php => said(
                "php",
                &["-r", "if (!extension_loaded('pdo_pgsql')) exit(1); echo 'PHP ', PHP_VERSION, PHP_EOL;"],
            ),
            Tool::Rust => Ok("built with this test".into()),
        })
        .clone()
    }

    /// Program and first arguments.
    pub fn command(&self, tool: Tool, file: &Path) -> (PathBuf, Vec<PathBuf>) {
        match tool {
            Tool::Shell => ("bash".into(), vec![file.into()]),
            Tool::Python => (self.cache.join("python/bin/python"), vec![file.into()]),
            Tool::Node => ("node".into(), vec![file.into()]),
            Tool::Java => ("java".into(), vec!["-cp".into(), self.jdbc(), file.into()]),
            Tool::C => (self.built("c", file), Vec::new()),
            Tool::Go => (self.built("go", file), Vec::new()),
            Tool::Ruby => ("ruby".into(), vec![file.into()]),
            Tool::Php => ("php".into(), vec![file.into()]),
            Tool::Rust => (file.into(), Vec::new()),
        }
    }

    fn jdbc(&self) -> PathBuf {
        match std::env::var_os("PGHERD_JDBC") {
            Some(jar) => jar.into(),
            None => self.cache.join("java/usr/share/java/postgresql.jar"),
        }
    }

    fn built(&self, folder: &str, file: &Path) -> PathBuf {
        self.cache.join(folder).join(file.file_stem().unwrap_or_default())
    }

    fn c(&self) -> Result<String, String> {
        let version = said("pg_config", &["--version"])?;
        let headers = said("pg_config", &["--includedir"])?;
        let libraries = said("pg_config", &["--libdir"])?;
        let source = self.sources.join("c/pipeline.c");
        self.once("c", &[&source, Path::new(&version)], |folder| {
            let mut cc = Command::new("cc");
            cc.arg("-O1").arg("-o").arg(folder.join("pipeline")).arg(&source);
            run(cc.arg(format!("-I{headers}")).arg(format!("-L{libraries}")).arg("-lpq"))
        })?;
        Ok(format!("libpq of {version}"))
    }

    fn go(&self) -> Result<String, String> {
        let version = said("go", &["version"])?;
        let source = self.sources.join("go/tour.go");
        for library in ["github.com/lib/pq", "github.com/jackc/pgx"] {
            let place = Path::new(GO_SOURCES).join("src").join(library);
            if !place.is_dir() {
                return Err(format!("{} is not there", place.display()));
            }
        }
        let cache = self.folder("go-cache");
        self.once("go", &[&source, Path::new(&version)], |folder| {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(folder.join("tour")).arg(&source);
            run(go.env("GO111MODULE", "off").env("GOPATH", GO_SOURCES).env("GOCACHE", &cache))
        })?;
        Ok(version)
    }

    fn python(&self) -> Result<String, String> {
        let version = said("python3", &["--version"])?;
        let requirements = self.sources.join("python/requirements.txt");
        self.once("python", &[&requirements, Path::new(&version)], |folder| {
            let folder_text = folder.to_string_lossy().into_owned();
            run(Command::new("python3").args(["-m", "venv", "--clear", &folder_text]))?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]);
            run(pip.arg("-r").arg(&requirements))
        })?;
        Ok(version)
    }

    fn node(&self) -> Result<String, String> {
        let version = said("node", &["--version"])?;
        let package = self.sources.join("node/package.json");
        self.once("node", &[&package, Path::new(&version)], |folder| {
            fs::copy(&package, folder.join("package.json")).map_err(|e| e.to_string())?;
            let mut npm = Command::new("npm");
            run(npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]).current_dir(folder))
        })?;
        Ok(format!("node {version}"))
    }

    fn java(&self) -> Result<String, String> {
        let version = said("javac", &["-version"])?;
        if std::env::var_os("PGHERD_JDBC").is_none() {
            self.once("java", &[Path::new(JDBC_PACKAGE)], |folder| {
                let installed = Path::new("/usr/share/java/postgresql.jar");
                if installed.is_file() {
                    let place = folder.join("usr/share/java");
                    fs::create_dir_all(&place).map_err(|e| e.to_string())?;
                    return fs::copy(installed, place.join("postgresql.jar"))
                        .map(drop)
                        .map_err(|e| e.to_string());
                }
                run(Command::new("apt-get").args(["download", "-q", JDBC_PACKAGE]).current_dir(folder))?;
                let script = "dpkg -x *.deb .";
                run(Command::new("sh").args(["-c", script]).current_dir(folder))
            })?;
        }
        Ok(version)
    }

    /// Runs `install` in an empty folder unless it was done for the same `pins` (contents of files, or texts).
    fn once(
        &self,
        name: &str,
        pins: &[&Path],
        install: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        for pin in pins {
            fs::read(pin).unwrap_or_else(|_| pin.as_os_str().as_encoded_bytes().to_vec()).hash(&mut hasher);
        }
        let mark = self.folder(name).join(format!("complete-{:016x}", hasher.finish()));
        if mark.is_file() {
            return Ok(());
        }
        let folder = self.cache.join(name);
        fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
        install(&self.folder(name))?;
        fs::write(mark, "").map_err(|e| e.to_string())
    }
}

/// The first line of what it prints.
fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(format!("{program}: {}", output.status)),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
    let deadline = Instant::now() + INSTALL_MAX;
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
    Err(format!("{name}: {}: {last}", output.status))
}
