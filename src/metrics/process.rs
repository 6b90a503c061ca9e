//! What the kernel says of this process, under the names that every client of Prometheus uses. Where it says nothing,
//! nothing is claimed.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// How many ticks /proc counts a second: the same on every architecture that Linux runs on today.
const TICKS: f64 = 100.0;

/// Reads /proc when it is asked.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(seen) = seen() else { return Ok(()) };
        let cpu = ConstCounter::new(seen.cpu_seconds);
        let about = "Processor time, user and system";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", about, None, cpu.metric_type())?)?;
        let resident = ConstGauge::new(seen.resident_bytes);
        let about = "Resident memory";
        resident.encode(encoder.encode_descriptor(
            "process_resident_memory_bytes",
            about,
            None,
            resident.metric_type(),
        )?)?;
        let start = ConstGauge::new(seen.start_seconds);
        let about = "When the process began, in Unix time";
        start.encode(encoder.encode_descriptor("process_start_time_seconds", about, None, start.metric_type())?)
    }
}

struct Seen {
    cpu_seconds: f64,
    resident_bytes: i64,
    start_seconds: f64,
}

fn seen() -> Option<Seen> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; what follows does not. See proc_pid_stat(5) for the numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Seen {
        cpu_seconds: (number(11)? + number(12)?) / TICKS,
        resident_bytes: resident.split_whitespace().next()?.parse::<i64>().ok()? * 1024,
        start_seconds: booted + number(19)? / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let seen = seen().unwrap();
        assert!(seen.resident_bytes > 1_000_000 && seen.cpu_seconds >= 0.0 && seen.start_seconds > 1.0e9);
    }
}
