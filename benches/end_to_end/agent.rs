//! The agent as a process: started with a configuration of its own, and looked at from outside.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::stage::Stage;

/// The binary that Cargo built for this.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_trailship");

/// The unit of times in `/proc`: 100 a second on every architecture that Linux has today.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
const TICK: Duration = Duration::from_millis(10);

/// How long the start may take.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// A running agent, killed when dropped.
pub(crate) struct Agent {
    child: Child,
    folder: TempDir,
}

/// What `ship` came to.
pub(crate) struct Shipped {
    pub(crate) peak_bytes: u64,
    pub(crate) lines: u64,
}

impl Agent {
    /// Starts `run` against the stand-ins, and waits until its pages answer.
    pub(crate) async fn run(stage: &Stage) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let config = format!(
            "[agent]\nlisten = \"127.0.0.1:{port}\"\nlog_level = \"warn\"\nstate_dir = \"{state}\"\n{aws}\
             [sinks.search]\ntype = \"elasticsearch\"\nendpoints = [\"{search}\"]\n\
             [dead_letter]\ntype = \"file\"\ndurable = true\npath = \"{letters}\"\n",
            state = folder.path().join("state").display(),
            letters = folder.path().join("letters.ndjson").display(),
            aws = stage.source_config(),
            search = stage.search_url(),
        );
        let mut agent = Self::start(folder, &config, &["run".as_ref()])?;
        let started = tokio::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            agent.ensure_alive()?;
            ensure!(started.elapsed() < START_TIME_MAX, "the agent does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(agent)
    }

    /// Ships one file to a file, and measures until it ends.
    pub(crate) fn ship(path: &Path) -> anyhow::Result<Shipped> {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("events.ndjson");
        let config = format!("[sinks.out]\ntype = \"file\"\npath = \"{}\"\n", out.display());
        let mut agent = Self::start(folder, &config, &["ship".as_ref(), path.as_os_str()])?;
        let mut peak_bytes = 0;
        let status = loop {
            // The last look before the end may fail, when there is nothing left to look at.
            peak_bytes = agent.peak_bytes().unwrap_or(0).max(peak_bytes);
            if let Some(status) = agent.child.try_wait()? {
                break status;
            }
            pause();
        };
        ensure!(status.success(), "`ship` ended with {status}");
        let mut lines = 0;
        for entry in std::fs::read_dir(agent.folder.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ndjson") {
                lines += count_lines(&path)?;
            }
        }
        Ok(Shipped { peak_bytes, lines })
    }

    fn start(folder: TempDir, config: &str, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<Self> {
        let path = folder.path().join("trailship.toml");
        std::fs::write(&path, config)?;
        let child = Command::new(BINARY)
            .args(arguments)
            .arg("--config")
            .arg(&path)
            .current_dir(folder.path())
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", "AKIABENCH")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("the agent cannot be started")?;
        Ok(Self { child, folder })
    }

    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the agent has ended: {status}"),
            None => Ok(()),
        }
    }

    /// User and system time of all threads so far.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let text = self.proc("stat")?;
        // The name in parentheses may hold anything; behind it stand `state`, and then numbers.
        let numbers = text.rsplit_once(") ").map(|(_, rest)| rest).context("no name in /proc/…/stat")?;
        let ticks: Vec<u32> =
            numbers.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        ensure!(ticks.len() == 2, "no times in /proc/…/stat");
        Ok(TICK * ticks.iter().sum::<u32>())
    }

    /// Memory at the moment.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most memory that there was at any time.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<u64> {
        let text = self.proc("status")?;
        let kibibytes = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
        Ok(kibibytes.with_context(|| format!("no {key} in /proc/…/status"))?.parse::<u64>()? << 10)
    }

    fn proc(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(PathBuf::from("/proc").join(self.child.id().to_string()).join(name))?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

#[allow(clippy::disallowed_methods, reason = "nothing else runs on this thread while it waits")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn count_lines(path: &Path) -> anyhow::Result<u64> {
    let mut file = BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    let mut lines = 0;
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(lines);
        }
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let len = bytes.len();
        file.consume(len);
    }
}
