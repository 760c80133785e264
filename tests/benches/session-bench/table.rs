//! The table at the end: the fastest sample of each row for each system, and ours over vodozemac's. What else
//! a machine does only makes samples slower; criterion's own report has the spread.
//!
//! Owns what was noted while criterion measured. It must not know what was measured.

use std::cell::RefCell;
use std::time::Duration;

/// What each row took, in the order of the first notes.
#[derive(Default)]
pub(crate) struct Table(RefCell<Vec<Noted>>);

struct Noted {
    row: String,
    of: String,
    /// Iterations and microseconds for each.
    samples: Vec<(u64, f64)>,
}

impl Table {
    /// Notes one sample.
    pub(crate) fn note(&self, row: &str, of: &str, iterations: u64, took: Duration) {
        let mut all = self.0.borrow_mut();
        let sample = (iterations, took.as_secs_f64() * 1e6 / iterations as f64);
        match all.iter_mut().find(|noted| noted.row == row && noted.of == of) {
            Some(noted) => noted.samples.push(sample),
            None => all.push(Noted { row: row.to_owned(), of: of.to_owned(), samples: vec![sample] }),
        }
    }

    /// Prints what was noted, in Markdown.
    pub(crate) fn print(&self) {
        let all = self.0.borrow();
        let mut rows: Vec<&str> = Vec::new();
        for noted in all.iter() {
            if !rows.contains(&noted.row.as_str()) {
                rows.push(&noted.row);
            }
        }
        let fastest = |row: &str, of: &str| {
            all.iter().find(|noted| noted.row == row && noted.of == of).map(Noted::fastest)
        };
        let time = |time: Option<f64>| time.map_or("-".to_owned(), |us| format!("{us:.2}"));
        let ratio = |ours: Option<f64>, olm: Option<f64>| {
            ours.zip(olm).map_or("-".to_owned(), |(ours, olm)| format!("{:.2}", ours / olm))
        };
        println!("| us | ours, light | ours, strict | vodozemac | light / vodozemac | strict / vodozemac |");
        println!("|---|---|---|---|---|---|");
        for row in rows {
            let [light, strict, olm] = ["light", "strict", "olm"].map(|of| fastest(row, of));
            let times = [light, strict, olm].map(time).join(" | ");
            println!("| {row} | {times} | {} | {} |", ratio(light, olm), ratio(strict, olm));
        }
    }
}

impl Noted {
    /// Of the samples that count: those before were for warming up, and of other numbers of iterations.
    fn fastest(&self) -> f64 {
        let last = self.samples.last().map_or(0, |(iterations, _)| *iterations);
        let counts = self.samples.iter().filter(|(iterations, _)| *iterations == last);
        counts.map(|(_, us)| *us).fold(f64::INFINITY, f64::min)
    }
}
