//! What the system says of this process: memory, processor time, open files.
//!
//! Owns: reading /proc. Where it is not there, or says something else, a figure is zero. Must not know what the process does.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the system says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Processor time that was used, all threads together, seconds.
    pub cpu_seconds: f64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Open files, sockets among them.
    pub open_files: u64,
    /// As many as may be open.
    pub open_files_max: u64,
    /// When the process started, Unix seconds.
    pub start_seconds: f64,
}

impl Figures {
    /// What there is now.
    #[must_use]
    pub fn read() -> Self {
        let status = read("self/status");
        let (cpu_ticks, start_ticks) = times(&read("self/stat")).unwrap_or_default();
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
        // Asked for once: it stays the same although the system's time may be set meanwhile.
        static START_SECONDS: OnceLock<f64> = OnceLock::new();
        let start_seconds = *START_SECONDS.get_or_init(|| boot_seconds() + seconds(start_ticks));
        Self {
            cpu_seconds: seconds(cpu_ticks),
            resident_bytes: kib(&status, "VmRSS:"),
            virtual_bytes: kib(&status, "VmSize:"),
            open_files: open_files(),
            open_files_max: number(&read("self/limits"), "Max open files").unwrap_or_default(),
            start_seconds,
        }
    }
}

/// Resident memory of this process; zero where the system doesn't say.
#[must_use]
pub fn resident_bytes() -> u64 {
    kib(&read("self/status"), "VmRSS:")
}

fn read(name: &str) -> String {
    fs::read_to_string(format!("/proc/{name}")).unwrap_or_default()
}

/// The first number after a word at a line's start.
fn number(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn kib(text: &str, word: &str) -> u64 {
    number(text, word).unwrap_or_default().saturating_mul(1_024)
}

/// Ticks of processor time, and from the system's start to the process's: proc_pid_stat(5), fields 14, 15 and 22.
fn times(stat: &str) -> Option<(u64, u64)> {
    // The second field is the program's name in parentheses, which may hold any character.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

/// When the system started, Unix seconds. /proc has it too, but not for a service that sees only itself there.
fn boot_seconds() -> f64 {
    let running = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    now - (running.tv_sec as f64 + running.tv_nsec as f64 / 1e9)
}

fn open_files() -> u64 {
    const DIRECTORY: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory says how many there are, which spares looking at each.
    match fs::metadata(DIRECTORY).map(|metadata| metadata.len()) {
        Ok(0) => {
            // The one that lists them is not one of them.
            let count = fs::read_dir(DIRECTORY).map_or(0, Iterator::count).saturating_sub(1);
            u64::try_from(count).unwrap_or(u64::MAX)
        }
        Ok(count) => count,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_times_whatever_the_program_is_called() {
        let stat = "7 (a) b 3) S 1 7 7 0 -1 4194560 5 0 0 0 120 34 0 0 20 0 3 0 4242 1 2 3";
        assert_eq!(times(stat), Some((154, 4242)));
        assert_eq!((times(""), times("7 (x) S 1 2")), (None, None));
    }

    #[test]
    fn reads_numbers_by_their_words() {
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024     524288   files\n";
        assert_eq!(number(limits, "Max open files"), Some(1_024));
        assert_eq!(number("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!((number("", "VmRSS:"), number("VmRSS:\n", "VmRSS:")), (None, None));
        assert_eq!(number("Max open files   unlimited  unlimited  files", "Max open files"), None);
    }

    #[test]
    fn sees_this_process() {
        let before = Figures::read();
        assert!(before.resident_bytes > 1_000_000 && before.virtual_bytes > before.resident_bytes);
        assert!(before.open_files >= 3 && before.open_files_max > before.open_files);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((-1.0..86_400.0).contains(&(now - before.start_seconds)), "{}", now - before.start_seconds);
        // Others open and close files meanwhile: more than they do.
        let open: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = Figures::read();
        assert!(
            after.open_files >= before.open_files + 100,
            "{} and then {}",
            before.open_files,
            after.open_files
        );
        assert!(after.cpu_seconds >= before.cpu_seconds);
        drop(open);
    }
}
