//! `podgate-init ready`: whether a sidecar says that the pod may start.

use crate::{ExitCode, arguments::Arguments, end::End, narration::Narrator, ready_file::Readiness, settings};

/// Looks, and says what it sees.
pub(crate) fn run(arguments: &Arguments, narrator: &mut Narrator<'_>) -> ExitCode {
    let file = match settings::parse_ready(arguments) {
        Ok(file) => file,
        Err(faults) => return End::misconfigured("", &faults, narrator).code,
    };
    let path = file.path().display();
    let (word, code) = match file.read() {
        Ok(Readiness::Ready) => ("ready".to_owned(), ExitCode::Granted),
        Ok(Readiness::NoSign) => (format!("not ready: there is no {path}"), ExitCode::NotReady),
        Ok(Readiness::Stale) => (format!("not ready: no living sidecar holds {path}"), ExitCode::NotReady),
        Err(error) => (format!("{path} can't be read: {error}"), ExitCode::Misconfigured),
    };
    narrator.print(&format!("{word}\n"));
    code
}
