//! What the agent has to know of the machine that it runs on: its variables, its memory, its mounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that hold the memory limit of this process's control group: version 2, version 1.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Above this a version 1 limit means that there is none.
const MEMORY_LIMIT_MAX: u64 = 1 << 50;

/// Variables that container platforms set.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html>
const CONTAINER_VARIABLES: [&str; 3] =
    ["ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI", "KUBERNETES_SERVICE_HOST"];

/// Where the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// Bytes of memory that the container may use.
    pub memory_limit: Option<u64>,
    /// In a container: its mounts, as `/proc/self/mountinfo` has them.
    pub container_mounts: Option<String>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let in_container = CONTAINER_VARIABLES.iter().any(|name| variables.contains_key(*name))
            || Path::new("/.dockerenv").exists()
            || Path::new("/run/.containerenv").exists();
        let memory_limit =
            MEMORY_LIMITS.iter().find_map(|file| read_memory_limit(&fs::read_to_string(file).ok()?));
        let container_mounts =
            in_container.then(|| fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        Self { variables, memory_limit, container_mounts }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether an absolute path lies on the container's own layer, which goes when the container goes.
    pub fn is_ephemeral(&self, path: &Path) -> bool {
        self.container_mounts.as_deref().is_some_and(|mounts| filesystem_of(mounts, path) == Some("overlay"))
    }
}

fn read_memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&limit| limit < MEMORY_LIMIT_MAX)
}

/// The type of the file system that holds `path`.
/// <https://www.kernel.org/doc/html/latest/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts>
fn filesystem_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            Some((mount.split(' ').nth(4)?, source.split(' ').next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        // Of equal ones the last: it was mounted over the others.
        .max_by_key(|(point, _)| point.len())
        .map(|(_, filesystem)| filesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 0 0:1 / / rw,relatime - overlay overlay rw,lowerdir=/a\n\
        2 1 0:2 / /proc rw - proc proc rw\n\
        3 1 8:1 /vol /var/lib/trailship rw,relatime shared:1 - ext4 /dev/sda1 rw\n";

    #[test]
    fn the_innermost_mount_decides_where_a_path_lies() {
        let machine = Machine { container_mounts: Some(MOUNTS.to_owned()), ..Machine::default() };
        assert!(machine.is_ephemeral(Path::new("/data/dead.ndjson")));
        assert!(!machine.is_ephemeral(Path::new("/var/lib/trailship/dead.ndjson")));
        assert!(machine.is_ephemeral(Path::new("/var/lib/trailship-other/dead.ndjson")));
        assert!(!Machine::default().is_ephemeral(Path::new("/data")));
    }

    #[test]
    fn a_memory_limit_is_a_number_below_all_memory() {
        assert_eq!(read_memory_limit("536870912\n"), Some(536_870_912));
        assert_eq!(read_memory_limit("max\n"), None);
        assert_eq!(read_memory_limit("9223372036854771712\n"), None);
    }
}
