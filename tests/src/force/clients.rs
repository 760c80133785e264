//! The real `e2e-client`, killed while it sends and while it receives, on a relay that is killed, too.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::World;
use crate::dice::Dice;
use crate::process::wait_for;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Killed {
    /// SIGKILLs of `recv`, `send`, and the relay.
    pub kills: [u64; 3],
    /// Messages that `send` said were taken, all of which were shown.
    pub taken: u64,
    /// Messages that were shown, those among them of which `send` could say nothing any more.
    pub shown: u64,
    /// Shown once more, as the last line of one run and the first ones of the next: printing is not atomic.
    pub repeated: u64,
    /// All of it, seconds.
    pub seconds: f64,
}

impl Killed {
    /// As a JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        let [recv, send, relay] = self.kills;
        format!(
            "{{\"kills_of_recv\":{recv},\"kills_of_send\":{send},\"kills_of_relay\":{relay},\"taken\":{},\"lost\":0,\
             \"shown\":{},\"repeated_last_lines\":{},\"secs\":{:.1}}}",
            self.taken, self.shown, self.repeated, self.seconds
        )
    }
}

/// The ids of whole lines, in order, with their texts.
fn lines(output: &str) -> Vec<(String, String)> {
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    whole.lines().filter_map(|line| Some((field(line, "id")?, field(line, "text")?))).collect()
}

/// Lets alice send to bob for so many rounds, in each of which one of the three is killed.
///
/// # Panics
/// If a message that was taken is not shown, or one is shown twice that was not a run's last.
#[must_use]
pub fn kill_clients(rounds: u64, seed: u64) -> Killed {
    let started = Instant::now();
    let mut world = World::new();
    let mut dice = Dice::new(seed);
    let mut killed = Killed::default();
    let mut taken = BTreeSet::new();
    let mut runs: Vec<Vec<(String, String)>> = Vec::new();
    for round in 0..rounds {
        let (alice, bob) = (world.client("alice"), world.client("bob"));
        let receiving = bob.start(&["recv", "--json", "-t", "30"]);
        let sending = alice.start(&["send", "bob", "-m", &format!("message {round}")]);
        thread::sleep(Duration::from_millis(dice.below(250)));
        let victim = dice.index(3);
        killed.kills[victim] += 1;
        let receiving = match victim {
            0 => {
                runs.push(lines(&receiving.stop("KILL").stdout));
                None
            }
            1 => Some(receiving),
            _ => {
                world.kill_and_restart();
                Some(receiving)
            }
        };
        // Whoever runs on a relay that is gone says so, keeps the message, and ends.
        let sent = if victim == 1 { sending.stop("KILL") } else { sending.finish().1 };
        if sent.code == Some(0) {
            taken.insert(format!("message {round}"));
        }
        if let Some(receiving) = receiving {
            thread::sleep(Duration::from_millis(dice.below(100)));
            runs.push(lines(&receiving.stop("INT").stdout));
        }
    }
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    wait_for("all that was taken", || {
        assert_eq!(alice.run(&["recv", "-t", "0", "--json"]).printed(), "");
        runs.push(lines(&bob.run(&["recv", "-t", "0", "--json"]).printed()));
        let shown: BTreeSet<_> = runs.iter().flatten().map(|(_, text)| text).collect();
        taken.iter().all(|text| shown.contains(text)).then_some(())
    });
    for (index, run) in runs.iter().enumerate() {
        for (place, line) in run.iter().enumerate() {
            let again = runs[index + 1..].iter().flatten().filter(|other| other.0 == line.0).count() as u64;
            assert!(again == 0 || place + 1 == run.len(), "{line:?} was shown again, and was not the last");
            assert!(!run[..place].contains(line), "{line:?} was shown twice in one run");
            killed.repeated += again;
        }
    }
    killed.taken = taken.len() as u64;
    killed.shown = runs.iter().flatten().map(|(id, _)| id).collect::<BTreeSet<_>>().len() as u64;
    killed.seconds = started.elapsed().as_secs_f64();
    killed
}
