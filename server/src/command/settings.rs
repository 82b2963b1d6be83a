//! `podgate config`, and how commands read their settings.

use std::path::PathBuf;

use clap::ArgMatches;

use crate::{
    command::{complain, exit_code, say},
    config::{Config, Layers, SETTINGS},
    environment,
};

/// Runs `podgate config --print`.
pub fn run(matches: &ArgMatches) -> u8 {
    let (layers, config) = read(matches);
    let key_width = SETTINGS.iter().map(|row| row.key.len()).max().unwrap_or_default();
    let value_width = SETTINGS.iter().map(|row| layers.get(row).0.len()).max().unwrap_or_default();
    say(SETTINGS.iter().map(|row| {
        let (text, origin) = layers.get(row);
        format!("{:key_width$}  {text:value_width$}  {origin}", row.key)
    }));
    match config {
        Ok(_) => exit_code::OK,
        Err(faults) => {
            complain(faults);
            exit_code::MISCONFIGURED
        }
    }
}

/// Reads the settings from everywhere; the error names every fault.
pub fn read(matches: &ArgMatches) -> (Layers, Result<Config, Vec<String>>) {
    let mut layers = Layers::defaults();
    let mut faults = Vec::new();
    if let Some(file) = matches.get_one::<PathBuf>("config") {
        layers.add_file(file, &mut faults);
    }
    layers.add_variables(&environment::variables(), &mut faults);
    for setting in SETTINGS {
        if let Some(value) = matches.get_one::<std::ffi::OsString>(setting.flag) {
            layers.add_flag(setting, value, &mut faults);
        }
    }
    let config = Config::parse(&layers);
    let config = match config {
        Ok(config) if faults.is_empty() => Ok(config),
        Ok(_) => Err(faults),
        Err(more) => Err(faults.into_iter().chain(more).collect()),
    };
    (layers, config)
}
