//! What a measurement found, and how it is printed.

/// What was measured.
pub(crate) struct Figures {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Sorted.
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) rss_bytes: u64,
    /// Acknowledgements of stored messages were counted, not deliveries.
    pub(crate) stored: bool,
}

impl Figures {
    /// A percentile of the latencies, microseconds.
    pub(crate) fn percentile(&self, fraction: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get((last as f64 * fraction).round() as usize).copied().map_or(0.0, f64::from)
    }

    /// Processor time of the system for each message, microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / (self.messages as f64).max(1.0)
    }

    /// Messages a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// One JSON object.
    pub(crate) fn json(&self, system: &str) -> String {
        let per_second = self.per_second();
        let stored = if self.stored { format!(",\"stored_per_s\":{per_second:.0}") } else { String::new() };
        format!(
            "{{\"system\":\"{system}\",\"msgs\":{},\"secs\":{:.2},\"msgs_per_s\":{per_second:.0},\
             \"cpu_us_per_msg\":{:.3},\"p50_us\":{:.0},\"p99_us\":{:.0},\"p999_us\":{:.0},\"rss_bytes\":{}{stored}}}",
            self.messages,
            self.seconds,
            self.cpu_us(),
            self.percentile(0.5),
            self.percentile(0.99),
            self.percentile(0.999),
            self.rss_bytes,
        )
    }
}
