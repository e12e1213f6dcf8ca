//! Writes the files of this repository that are generated from code. A test compares them with what it would write.
//!
//! ```text
//!  cargo run --release -p xtask -- settings-page     docs/configuration.md
//!  cargo run --release -p xtask -- crds              helm/aktis-operator/crds/*.yaml
//!  cargo run --release -p xtask -- all               both
//! ```

mod generated;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use generated::{GenerateError, crds, settings_page, write};

/// Write the generated files of this repository.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which.
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// docs/configuration.md, from the declarations of the settings.
    SettingsPage,
    /// The definitions of the custom resources in the Helm chart, from the operator's types.
    Crds,
    /// All of them.
    All,
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), GenerateError> {
    let files = match what {
        What::SettingsPage => vec![settings_page()],
        What::Crds => crds()?,
        What::All => generated::all()?,
    };
    for file in files {
        write(&file)?;
        println!("{}", file.path);
    }
    Ok(())
}
