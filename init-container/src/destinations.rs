//! The destinations that are named by flag, variable and file.

use std::{fs::File, io::Read as _, path::Path};

use podgate_client::{DESTINATIONS_MAX, Destination};

use crate::{
    arguments::{Arguments, Given},
    fault::Fault,
    flags,
};

/// Largest destinations file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most faults that are reported about them; a file of the wrong kind would fill the log otherwise.
const FAULTS_MAX: usize = 20;

/// All that are named, each once, in the order in which they are: flag or variable first, then the file.
pub(crate) fn read(arguments: &Arguments, faults: &mut Vec<Fault>) -> Vec<Destination> {
    let mut reading = Reading::default();
    for Given { source, value } in arguments.given(flags::DESTINATION) {
        let before = reading.named;
        for item in value.split([',', '\n']) {
            reading.item(source, item);
        }
        if reading.named == before {
            reading
                .fault(source, "names no destination; leave it out to ask for all that the profile allows");
        }
    }
    if let Some(Given { source, value }) = arguments.one(flags::DESTINATIONS_FILE) {
        reading.file(source, value);
    }
    let Reading { mut destinations, faults: found, faults_more, .. } = reading;
    faults.extend(found);
    if faults_more > 0 {
        faults.push(Fault::new("destinations", format!("{faults_more} more faults of this kind")));
    }
    if destinations.len() > DESTINATIONS_MAX {
        let many = destinations.len();
        faults.push(Fault::new(
            "destinations",
            format!("{many} are named; expected at most {DESTINATIONS_MAX}"),
        ));
        destinations.truncate(DESTINATIONS_MAX);
    }
    destinations
}

#[derive(Default)]
struct Reading {
    destinations: Vec<Destination>,
    seen: std::collections::HashSet<Destination>,
    /// How many were named, right or wrong.
    named: usize,
    faults: Vec<Fault>,
    faults_more: usize,
}

impl Reading {
    fn fault(&mut self, source: &str, what: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault::new(source, what));
        } else {
            self.faults_more += 1;
        }
    }

    fn item(&mut self, source: &str, item: &str) {
        let item = item.trim();
        if item.is_empty() {
            return;
        }
        self.named += 1;
        match item.parse::<Destination>() {
            Ok(destination) => {
                if self.seen.insert(destination.clone()) {
                    self.destinations.push(destination);
                }
            }
            Err(error) => self.fault(source, error.to_string()),
        }
    }

    fn file(&mut self, source: &str, path: &str) {
        let text = match read_file(Path::new(path)) {
            Ok(text) => text,
            Err(why) => return self.fault(source, format!("{path} {why}")),
        };
        let before = self.named;
        for (number, line) in text.lines().enumerate() {
            let item = line.split_once('#').map_or(line, |(item, _)| item);
            self.item(&format!("{path}:{}", number + 1), item);
        }
        if self.named == before {
            self.fault(
                source,
                format!("{path} names no destination; leave it out to ask for all that the profile allows"),
            );
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        format!("is not UTF-8 in line {line}")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn named(args: &[&str], variable: &str) -> (Vec<String>, Vec<String>) {
        let vars = vec![("PODGATE_DESTINATIONS".into(), variable.into())];
        let arguments = Arguments::collect(args.iter().map(Into::into).collect(), vars);
        let mut faults = arguments.faults.clone();
        let destinations = read(&arguments, &mut faults);
        (
            destinations.iter().map(ToString::to_string).collect(),
            faults.iter().map(ToString::to_string).collect(),
        )
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn lists_are_split_and_repeats_dropped() {
        let (destinations, faults) = named(&[], "mysql:3306, redis:6379\n\nmysql:3306/tcp,");
        assert_eq!(
            (destinations, faults),
            (vec!["mysql:3306".to_owned(), "redis:6379".to_owned()], Vec::new())
        );
    }

    #[test]
    fn a_file_adds_to_what_flags_name() {
        let file = file(b"# the databases\nmysql:3306  # orders\n\n  [2001:db8::1]:443\r\ndns:53/udp\n");
        let args = ["--destination", "redis:6379", "--destinations-file", file.path().to_str().unwrap()];
        let (destinations, faults) = named(&args, "ignored:1");
        assert_eq!(destinations, ["redis:6379", "mysql:3306", "[2001:db8::1]:443", "dns:53/udp"]);
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn faults_name_file_and_line() {
        let file = file(b"mysql\n\nredis:99999\n");
        let path = file.path().to_str().unwrap();
        let (_, faults) = named(&["--destinations-file", path, "--destination", "x:y"], "");
        assert_eq!(
            faults,
            [
                "--destination: \"x:y\" is not a destination: the port is not a number; expected host:port[-last][/tcp|udp]".to_owned(),
                format!("{path}:1: \"mysql\" is not a destination: the port is missing; expected host:port[-last][/tcp|udp]"),
                format!("{path}:3: \"redis:99999\" is not a destination: the port is not between 1 and 65535; expected host:port[-last][/tcp|udp]"),
            ]
        );
    }

    #[test]
    fn an_empty_list_does_not_ask_for_everything() {
        let file = file(b"# nothing yet\n");
        let path = file.path().to_str().unwrap();
        let hint = "names no destination; leave it out to ask for all that the profile allows";
        assert_eq!(
            named(&["--destinations-file", path], " , ").1,
            [format!("PODGATE_DESTINATIONS: {hint}"), format!("--destinations-file: {path} {hint}"),]
        );
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let text = |file: &tempfile::NamedTempFile| {
            named(&["--destinations-file", file.path().to_str().unwrap()], "").1
        };
        assert!(text(&file(b"a:1\nb:2\n\xff")).concat().ends_with("is not UTF-8 in line 3"));
        assert!(text(&file(&vec![b'#'; 2 << 20])).concat().ends_with("is larger than 1048576 bytes"));
        let missing = named(&["--destinations-file", "/nonexistent"], "").1;
        assert_eq!(
            missing,
            ["--destinations-file: /nonexistent can't be read: No such file or directory (os error 2)"]
        );
    }

    #[test]
    fn a_flood_is_bounded() {
        let list = (0..10_000).map(|n| format!("h{n}:1")).collect::<Vec<_>>().join(",");
        let (destinations, faults) = named(&[], &list);
        assert_eq!(destinations.len(), 256);
        assert_eq!(faults, ["destinations: 10000 are named; expected at most 256"]);
        let (_, faults) = named(&[], &"x,".repeat(10_000));
        assert_eq!(
            (faults.len(), faults.last().unwrap().as_str()),
            (21, "destinations: 9980 more faults of this kind")
        );
    }
}
