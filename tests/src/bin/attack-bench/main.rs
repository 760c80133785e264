//! Measures what an attack on the relay costs two users who have nothing to do with it.
//!
//! Owns: the command line, the live pair, and the JSON that is printed, one object for each attack. For each there is a fresh relay,
//! alone on the first core where `taskset` is there; the pair and the attackers are on the second, the attackers as a process
//! of their own (this program again) that yields to the pair. The attacks: `attacks`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a benchmark

mod attacks;
mod pair;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio, exit};
use std::time::{Duration, Instant};

use attacks::Attack;
use e2e_tests::process::{Directory, Relay, binary, cpu_seconds, resident_bytes_most, run, send_signal};
use pair::{Latencies, Pair};

/// How much worse the 99th percentile may be.
const RATIO_MAX: f64 = 3.0;
/// How often the attack pauses and goes on.
const ROUNDS: u32 = 5;
/// Below so many microseconds a percentile is noise: it counts as this much.
const NOISE_US: f64 = 200.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optmulti("", "attack", "only this one; may be repeated (default: all)", "NAME");
    flags.optopt("", "secs", "seconds without, and as many with each attack, in turn (default: 5)", "N");
    flags.optflag("l", "list", "list the attacks and exit");
    flags.optflag("h", "help", "print this help and exit");
    // How this program runs itself.
    flags.optopt("", "against", "be the attacker of the relay there", "ADDR:PORT");
    let matches = flags.parse(&arguments).unwrap_or_else(|error| {
        eprintln!("attack-bench: error: {error}");
        exit(64);
    });
    if matches.opt_present("h") {
        let brief = "Usage: attack-bench [OPTION]...\nPrints JSON, one object a line; exits 1 if an attack costs others too much.";
        return print!("{}", flags.usage(brief));
    }
    if matches.opt_present("l") {
        return Attack::ALL.iter().for_each(|attack| println!("{:<16} {}", attack.name(), attack.about()));
    }
    let seconds: f64 = matches.opt_str("secs").map_or(5.0, |text| text.parse().expect("a number"));
    let given = matches.opt_strs("attack");
    let chosen: Vec<_> = Attack::ALL
        .into_iter()
        .filter(|attack| given.is_empty() || given.iter().any(|name| name == attack.name()))
        .collect();
    assert!(!chosen.is_empty(), "--list names the attacks");
    if let Some(address) = matches.opt_str("against") {
        let address: SocketAddr = address.parse().expect("an address");
        return chosen[0].run(address, Instant::now() + Duration::from_secs_f64(seconds));
    }
    pin(std::process::id());
    let mut good = true;
    for attack in chosen {
        good &= measure(attack, seconds);
    }
    exit(i32::from(!good));
}

fn measure(attack: Attack, seconds: f64) -> bool {
    let directory = Directory::new();
    // Every connection comes with an address of its own choice.
    let arguments = ["--proxy-from", "127.0.0.1"];
    let relay = start(&directory, &arguments);
    let ceiling = ceiling_bytes(&arguments);
    attack.prepare(relay.address());
    let mut pair = Pair::new(relay.address());
    pair.run(Duration::from_millis(500));
    let mut attacker = attacker(attack, relay.address(), 3.0 * seconds + 10.0);
    // Until it is at full strength.
    pair.run(Duration::from_millis(1_500));
    // In turn, so that whatever else the machine does falls on both.
    let part = Duration::from_secs_f64(seconds / f64::from(ROUNDS));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut busy_seconds = 0.0;
    for _ in 0..ROUNDS {
        send_signal(attacker.id(), "STOP");
        pair.run(Duration::from_millis(100));
        without.extend(pair.run(part));
        send_signal(attacker.id(), "CONT");
        pair.run(Duration::from_millis(100));
        let before = cpu_seconds(relay.id());
        with.extend(pair.run(part));
        busy_seconds += cpu_seconds(relay.id()) - before;
    }
    assert!(attacker.try_wait().expect("it can be waited for").is_none(), "the attack ended by itself");
    let _ = attacker.kill();
    attacker.wait().expect("the attacker ends");
    let (without, with) = (Latencies::of(without), Latencies::of(with));
    let busy = busy_seconds / seconds;
    let ratio = with.p99_us.max(NOISE_US) / without.p99_us.max(NOISE_US);
    let most = resident_bytes_most(relay.id());
    println!(
        "{{\"attack\":\"{}\",\"secs\":{seconds},\"msgs_without\":{},\"msgs_with\":{},\"p50_us_without\":{:.0},\
         \"p50_us_with\":{:.0},\"p99_us_without\":{:.0},\"p99_us_with\":{:.0},\"p99_ratio\":{ratio:.2},\
         \"relay_busy\":{busy:.2},\"rss_most_bytes\":{most},\"ceiling_bytes\":{ceiling}}}",
        attack.name(),
        without.messages,
        with.messages,
        without.p50_us,
        with.p50_us,
        without.p99_us,
        with.p99_us,
    );
    ratio <= RATIO_MAX && most < ceiling
}

fn attacker(attack: Attack, address: SocketAddr, seconds: f64) -> Child {
    let program = std::env::current_exe().expect("this program");
    let (address, seconds) = (address.to_string(), seconds.to_string());
    Command::new("nice")
        .args(["-n", "19"])
        .arg(program)
        .args(["--attack", attack.name(), "--against", &address, "--secs", &seconds])
        .stdin(Stdio::null())
        .spawn()
        .expect("nice is there")
}

fn start(directory: &Directory, arguments: &[&str]) -> Relay {
    let state = directory.path().join("state");
    let relay = binary("e2e-relayd");
    if Command::new("taskset").arg("-V").output().is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(relay);
        Relay::start_with(command, &state, arguments)
    } else {
        Relay::start(&state, arguments)
    }
}

/// Keeps a process, and what it starts, off the relay's core.
fn pin(process: u32) {
    let _ = Command::new("taskset").args(["-cp", "1", &process.to_string()]).output();
}

fn ceiling_bytes(arguments: &[&str]) -> u64 {
    let output = run(Command::new(binary("e2e-relayd")).args(arguments).arg("--limits"));
    let page = String::from_utf8(output.stdout).expect("text");
    let line = page.lines().find(|line| line.ends_with("  in all")).expect("the last line");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
