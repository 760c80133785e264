//! Writes the manual pages, and the configuration file as it is installed, into a folder: `manuals FOLDER`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a tool of the build

use std::fs;
use std::path::Path;

use e2e_client::cli::manual as client;
use e2e_relayd::manual as relay;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else { panic!("manuals FOLDER") };
    let folder = Path::new(folder);
    fs::create_dir_all(folder).expect("a folder can be made there");
    let texts = [
        ("e2e-client.1", client::page()),
        ("e2e-relayd.8", relay::relay()),
        ("e2e-relayd.toml.5", relay::configuration()),
        ("e2e-relayd.toml", relay::default_configuration()),
    ];
    for (name, text) in texts {
        fs::write(folder.join(name), text).expect("it can be written");
    }
}
