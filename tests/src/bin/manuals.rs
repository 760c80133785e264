//! Writes the manual pages into a folder: `manuals FOLDER`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a tool of the build

use std::fs;
use std::path::Path;

use e2e_client::cli::manual as client;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else { panic!("manuals FOLDER") };
    let folder = Path::new(folder);
    fs::create_dir_all(folder).expect("a folder can be made there");
    fs::write(folder.join("e2e-client.1"), client::page()).expect("it can be written");
}
