//! The real binary as a child process, with its log.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bench::http_client;

/// A running agent; dropping it kills it, and shows its log where the test fails.
pub(crate) struct Agent {
    child: Child,
    log: Log,
}

/// The log of an agent; it may still grow.
#[derive(Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    /// Everything that was logged, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.0).unwrap_or_default()).into_owned()
    }

    /// The lines; one that is being written is left out.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))).collect()
    }

    /// The lines with this code.
    pub(crate) fn coded(&self, code: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["code"] == code).collect()
    }
}

/// Lines of the log that a failing test shows.
const SHOWN: usize = 60;

/// The binary in `folder`, with no environment but what every test needs.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trailship"));
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

impl Agent {
    /// Starts a command whose standard error becomes the log `name`.
    pub(crate) fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let log = folder.join(name);
        let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn();
        Self { child: child.unwrap(), log: Log(log) }
    }

    /// Its log, also for those who wait for something in it.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Its log lines with this code.
    pub(crate) fn coded(&self, code: &str) -> Vec<Value> {
        self.log.coded(code)
    }

    /// Asks one of its own pages: the status of the answer, and its text.
    pub(crate) async fn page(&mut self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.pages().await);
        let answer = http_client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of a metric, written as `/metrics` has it: `name{label="value"}`.
    pub(crate) async fn metric(&mut self, series: &str) -> u64 {
        let (_, text) = self.page("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value: f64 = line.unwrap_or_else(|| panic!("no metric {series}:\n{text}")).parse().unwrap();
        value as u64
    }

    /// Where its pages are, which it says in its log.
    async fn pages(&mut self) -> String {
        loop {
            if let Some(started) = self.coded("started").first() {
                return started["status"].as_str().unwrap().trim_end_matches('/').to_owned();
            }
            assert!(self.runs(), "the agent has ended before it had started");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The most memory that it ever had.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// What it has in memory now (`VmRSS:`), or another line of its status.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let size = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        size.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Tells it to stop (SIGTERM).
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Tells it to read its configuration again (SIGHUP).
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} $0");
        let told = Command::new("sh").args(["-c", &command, &self.child.id().to_string()]).status();
        assert!(told.unwrap().success(), "the agent is gone");
    }

    /// What kills it (SIGKILL) from another thread; returns when that is done.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + 'static {
        let id = self.child.id().to_string();
        move || {
            let done = Command::new("sh").args(["-c", "kill -KILL $0", &id]).status();
            assert!(done.unwrap().success(), "the agent was gone before it was to be killed");
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until so many lines of its log have this code; gives them.
    pub(crate) async fn told(&mut self, code: &str, times: usize) -> Vec<Value> {
        let start = tokio::time::Instant::now();
        loop {
            let lines = self.coded(code);
            if lines.len() >= times {
                return lines;
            }
            assert!(self.runs(), "the agent has ended; waiting for {code}");
            assert!(start.elapsed() < Duration::from_secs(60), "waiting for {code}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log.text();
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            let _ = writeln!(std::io::stderr(), "the end of {}:\n{shown}", self.log.0.display());
        }
    }
}
