//! Facts about this machine and this process from Linux's `/proc`; on other systems most of them are unknown.

/// Returns the most memory that this process had at once, in units of 1000 * 1000 bytes.
#[must_use]
pub fn peak_memory_mb() -> Option<f64> {
    memory_mb("VmHWM")
}

/// Returns the memory that this process has now, in units of 1000 * 1000 bytes.
#[must_use]
pub fn resident_memory_mb() -> Option<f64> {
    memory_mb("VmRSS")
}

fn memory_mb(field: &str) -> Option<f64> {
    let kib = proc_field("/proc/self/status", field)?;
    let kib: f64 = kib.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Returns the memory of the machine, in units of 1000 * 1000 bytes.
#[must_use]
pub fn total_memory_mb() -> Option<f64> {
    let kib = proc_field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = kib.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Returns the name of the processor, or its architecture if the name is unknown.
#[must_use]
pub fn cpu_name() -> String {
    ["model name", "Model", "Hardware"]
        .iter()
        .find_map(|name| proc_field("/proc/cpuinfo", name))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Returns the machine's name.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Returns when a process of this machine began, in the kernel's ticks since the machine was started; `None` if there
/// is no such process. Two processes that were given the same number one after the other differ in it.
#[must_use]
pub fn process_start(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // A zombie is no longer at work.
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Returns whether [`process_start`] works on this system.
#[must_use]
pub fn knows_processes() -> bool {
    process_start(std::process::id()).is_some()
}

/// Returns the value of a field in one of Linux's lists of `name: value`.
fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive_and_others_need_not_be() {
        assert!(knows_processes());
        // Above what Linux gives.
        assert_eq!(process_start(u32::MAX), None);
        assert!(resident_memory_mb().unwrap() <= peak_memory_mb().unwrap() + 1.0);
    }
}
