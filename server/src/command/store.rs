//! `podgate store`: what an operator does with the store of a gateway that is stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

use crate::{
    command::{complain, exit_code, say},
    serve::policy,
    store::{
        Kind, StoreError,
        import::{self, ImportError, Standing},
        offline::{Counts, ExportError, Extent, OfflineStore, Secrecy, Survey, Unreadable},
    },
};

/// Runs `podgate store …`.
pub fn run(matches: &ArgMatches) -> u8 {
    let Some((command, matches)) = matches.subcommand() else {
        return exit_code::MISCONFIGURED;
    };
    let Some(directory) = matches.get_one::<PathBuf>("directory") else {
        return exit_code::MISCONFIGURED;
    };
    match command {
        "check" => check(directory),
        "compact" => compact(directory),
        "export" => export(directory, matches),
        _ => import(directory, matches),
    }
}

fn check(directory: &Path) -> u8 {
    let looked = OfflineStore::open(directory).and_then(|store| {
        let survey = store.survey(&read_document)?;
        let bytes = store.bytes()?;
        Ok((store, survey, bytes))
    });
    let (store, survey, bytes) = match looked {
        Ok(looked) => looked,
        Err(failure) => return fail(directory, &failure),
    };
    say([format!(
        "{}: {bytes} bytes, of which records take {}",
        store.file().display(),
        survey.record_bytes
    )]);
    say([store.recovery()]);
    say([format!(
        "{}; {} of the grants are over; the next is {}",
        amounts(&survey.counts),
        survey.expired,
        survey.next_grant
    )]);
    match survey.anomalies_total {
        0 => {
            say(["all good"]);
            exit_code::OK
        }
        _ => {
            complain_of(&survey);
            complain([
                "a gateway does not serve this; `podgate store export --skip-unreadable` saves what can be read".to_owned(),
            ]);
            exit_code::UNSOUND
        }
    }
}

fn compact(directory: &Path) -> u8 {
    let compacted = OfflineStore::open(directory).and_then(|store| {
        let (file, before) = (store.file().to_owned(), store.bytes()?);
        Ok((file, before, store.compact()?))
    });
    match compacted {
        Ok((file, before, after)) => {
            say([format!("{}: {before} bytes before, {after} after", file.display())]);
            exit_code::OK
        }
        Err(failure) => fail(directory, &failure),
    }
}

fn export(directory: &Path, matches: &ArgMatches) -> u8 {
    let extent = Extent {
        secrets: if matches.get_flag("with-keys") { Secrecy::Told } else { Secrecy::Withheld },
        unreadable: if matches.get_flag("skip-unreadable") {
            Unreadable::LeftOut
        } else {
            Unreadable::Refused
        },
    };
    let store = match OfflineStore::open(directory) {
        Ok(store) => store,
        Err(failure) => return fail(directory, &failure),
    };
    let exported = match matches.get_one::<PathBuf>("out") {
        Some(file) => write_whole(file, |out| store.export(out, extent, &read_document)),
        None => store.export(&mut BufWriter::new(io::stdout().lock()), extent, &read_document),
    };
    match exported {
        Ok(survey) => {
            complain_of(&survey);
            // Standard output may be the export itself.
            tell([format!("exported: {}", amounts(&survey.counts))]);
            if extent.secrets == Secrecy::Withheld {
                tell([
                    "the keys of tickets are not in it: after an import, pods that wait for a slot ask anew",
                ]);
            }
            exit_code::OK
        }
        Err(ExportError::Anomalies(survey)) => {
            complain_of(&survey);
            complain([ExportError::Anomalies(survey)]);
            exit_code::UNSOUND
        }
        Err(ExportError::Store(failure)) => fail(directory, &failure),
        Err(failure @ ExportError::Write(_)) => {
            complain([failure]);
            exit_code::FAILED
        }
    }
}

fn import(directory: &Path, matches: &ArgMatches) -> u8 {
    let standing = if matches.get_flag("replace") { Standing::IsReplaced } else { Standing::Stays };
    let Some(file) = matches.get_one::<PathBuf>("file") else {
        return exit_code::MISCONFIGURED;
    };
    let imported = if file.as_os_str() == "-" {
        import::import(directory, io::stdin().lock(), standing, &read_document)
    } else {
        match File::open(file) {
            Ok(lines) => import::import(directory, BufReader::new(lines), standing, &read_document),
            Err(error) => {
                complain([format!("{}: {error}", file.display())]);
                return exit_code::MISCONFIGURED;
            }
        }
    };
    match imported {
        Ok(imported) => {
            say([format!("imported: {}", amounts(&imported.counts))]);
            if let Some(replaced) = imported.replaced {
                say([format!("the store that was there before is {}", replaced.display())]);
            }
            exit_code::OK
        }
        Err(ImportError::Faults(faults)) => {
            complain(faults.iter().map(|fault| format!("{}:{fault}", file.display())));
            complain([ImportError::Faults(faults)]);
            exit_code::MISCONFIGURED
        }
        Err(failure @ ImportError::Exists(_)) => {
            complain([format!("{failure}; --replace puts the import in its place, and keeps it beside")]);
            exit_code::FAILED
        }
        Err(ImportError::Store(failure)) => fail(directory, &failure),
    }
}

fn read_document(kind: Kind, name: &str, bytes: &[u8]) -> Result<(), String> {
    policy::read_kept(kind, bytes).map_err(|why| format!("document `{name}`: {why}"))
}

fn amounts(counts: &Counts) -> String {
    let Counts { secrets, documents, frontiers, grants, ends, occupancies } = counts;
    let keys = if *secrets == 0 { "" } else { ", the keys of tickets" };
    format!(
        "{grants} grants, {occupancies} remembered addresses, {documents} documents, {frontiers} frontiers, {ends} ends \
         that wait for the upstream{keys}"
    )
}

/// Writes a file beside its place, for its owner alone, and puts it there when it is whole.
fn write_whole(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<Survey, ExportError>,
) -> Result<Survey, ExportError> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let part = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let mut out = BufWriter::new(part);
    let written = write(&mut out).and_then(|survey| {
        let part = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        part.sync_all()?;
        fs::rename(&beside, file)?;
        Ok(survey)
    });
    if written.is_err() {
        fs::remove_file(&beside)?;
    }
    written
}

fn complain_of(survey: &Survey) {
    complain(&survey.anomalies);
    let untold = survey.anomalies_total - survey.anomalies.len() as u64;
    if untold > 0 {
        complain([format!("and {untold} more")]);
    }
}

fn fail(directory: &Path, failure: &StoreError) -> u8 {
    complain([failure.to_string()]);
    if let Some(advice) = failure.advice(directory) {
        complain([advice]);
    }
    match failure {
        StoreError::Unusable { .. } | StoreError::Record { .. } => exit_code::UNSOUND,
        _ => exit_code::FAILED,
    }
}

/// Tells a person something beside what goes to standard output.
fn tell(lines: impl IntoIterator<Item = impl std::fmt::Display>) {
    let mut err = io::stderr().lock();
    for line in lines {
        // Where nobody reads it there is nobody to tell.
        if writeln!(err, "{line}").is_err() {
            return;
        }
    }
}
