//! `e2e-client`: see [`e2e_client::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e_client::cli::main()
}
