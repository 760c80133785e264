//! A sender's books: what became of each number of one lane.

use std::collections::BTreeMap;

use e2e_protocol::ids::{Lane, Uid};
use e2e_protocol::limits::LANE_WINDOW;
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Code, ErrorCode};

use crate::raw::{Raw, send_frame};

/// All results of a lane, in the order in which they came.
#[derive(Debug)]
pub struct Ledger {
    /// Whose.
    pub lane: Lane,
    results: BTreeMap<u64, Vec<ResultCode>>,
}

impl Ledger {
    /// Empty ones.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        Self { lane, results: BTreeMap::new() }
    }

    /// Takes the next RESULT. Numbers that were refused because the relay was busy are returned, to be sent again.
    ///
    /// # Panics
    /// As [`Raw::next_results`], and if the result contradicts an earlier one or is
    /// another refusal.
    pub fn take(&mut self, raw: &mut Raw) -> Vec<u64> {
        let mut results = raw.next_results();
        while results.lane != self.lane {
            results = raw.next_results(); // a later word on an earlier lane
        }
        let numbers = results.first..results.first + results.count;
        if results.code == ResultCode::Refused {
            assert_eq!(results.reason, Code::from(ErrorCode::Busy), "numbers {numbers:?}");
            return numbers.collect();
        }
        for number in numbers {
            let known = self.results.entry(number).or_default();
            assert!(
                known.iter().all(|code| is_open(*code)),
                "number {number}: {known:?}, {:?}",
                results.code
            );
            known.push(results.code);
        }
        Vec::new()
    }

    /// Waits for a number's first result.
    ///
    /// # Panics
    /// As [`Ledger::take`], and if the relay was busy.
    pub fn wait_for_first(&mut self, raw: &mut Raw, number: u64) -> ResultCode {
        while !self.results.contains_key(&number) {
            assert_eq!(self.take(raw), [] as [u64; 0]);
        }
        self.results[&number][0]
    }

    /// Waits for the result of a number after which none comes.
    ///
    /// # Panics
    /// As [`Ledger::wait_for_first`].
    pub fn wait_for_final(&mut self, raw: &mut Raw, number: u64) -> ResultCode {
        loop {
            let last = self.results.get(&number).and_then(|results| results.last());
            match last {
                Some(code) if !is_open(*code) => return *code,
                _ => assert_eq!(self.take(raw), [] as [u64; 0]),
            }
        }
    }

    /// Sends messages under the numbers from 1 to `count`, as many at once as a lane may have without a
    /// result, and waits until each has one. `envelope` says what is in each.
    ///
    /// # Panics
    /// As [`Ledger::take`].
    pub fn send_all(&mut self, raw: &mut Raw, to: Uid, count: u64, envelope: impl Fn(u64) -> Vec<u8>) {
        let mut next = 1;
        while next <= count || !(1..=count).all(|number| self.results.contains_key(&number)) {
            let oldest = (1..next).find(|number| !self.results.contains_key(number)).unwrap_or(next);
            if next <= count && next < oldest + LANE_WINDOW {
                raw.send(&send_frame(to, self.lane, next, &envelope(next)));
                next += 1;
                continue;
            }
            for number in self.take(raw) {
                raw.send(&send_frame(to, self.lane, number, &envelope(number)));
            }
        }
    }

    /// The numbers that the relay answers for: STORED, and not collected yet.
    #[must_use]
    pub fn stored(&self) -> Vec<u64> {
        let stored = |results: &Vec<ResultCode>| results.last() == Some(&ResultCode::Stored);
        self.results.iter().filter(|(_, results)| stored(results)).map(|(number, _)| *number).collect()
    }
}

/// Whether a later result may follow.
fn is_open(code: ResultCode) -> bool {
    matches!(code, ResultCode::Stored | ResultCode::Uncertain)
}
