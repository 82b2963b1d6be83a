//! The thread that keeps the files' policy in force.

use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};

use podgate_engine::profile::{Source, Sourced};
use podgate_proto::v1;
use tracing::{error, info};

use crate::{
    clock,
    gate::Gate,
    grpc::convert::document::DocumentMessage,
    source::{
        directory::{Directory, Documents, Look},
        watch::{Bell, Wake, Watch},
    },
    store::{Kept, Kind, StoreError},
    vital::Vital,
};

/// How long at most until a look without any notice: not every file system gives notice, and none does of a directory
/// that is not there yet.
const UNNOTICED_MAX: Duration = Duration::from_secs(30);
const UNNOTICED_FAULTY_MAX: Duration = Duration::from_secs(2);

/// Reads what the store keeps of the API's documents.
pub fn kept_documents(kept: &Kept) -> Result<Documents, StoreError> {
    let mut documents = Documents::default();
    for (kind, name, bytes) in &kept.documents {
        let unreadable = |table, why| StoreError::Record { table, key: name.clone(), why };
        match kind {
            Kind::Profile => {
                let profile = read::<v1::Profile>(bytes).map_err(|why| unreadable("profiles", why))?;
                let etag = profile.etag();
                let sourced = Sourced { document: Arc::new(profile), etag, source: Source::Api };
                documents.profiles.insert(name.as_str().into(), sourced);
            }
            Kind::CommonPorts => {
                let common = read::<v1::CommonPorts>(bytes).map_err(|why| unreadable("common_ports", why))?;
                let etag = common.etag();
                let sourced = Sourced { document: Arc::new(common), etag, source: Source::Api };
                documents.common.insert(name.as_str().into(), sourced);
            }
        }
    }
    Ok(documents)
}

/// Tells what is wrong with a document that the store keeps.
pub fn read_kept(kind: Kind, bytes: &[u8]) -> Result<(), String> {
    match kind {
        Kind::Profile => read::<v1::Profile>(bytes).map(drop),
        Kind::CommonPorts => read::<v1::CommonPorts>(bytes).map(drop),
    }
}

fn read<M: DocumentMessage>(bytes: &[u8]) -> Result<M::Document, String> {
    let message = M::decode(bytes).map_err(|error| error.to_string())?;
    message.read().map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

/// Starts the thread; it reads the directory at once, and then whenever it changes or the bell rings.
pub fn start(gate: &Arc<Gate>, root: PathBuf) -> io::Result<Bell> {
    let watch = Watch::new(&root);
    let bell = watch.bell();
    let gate = Arc::downgrade(gate);
    let mut directory = Directory::new(root);
    thread::Builder::new().name("policy".to_owned()).spawn(move || {
        let _vital = Vital("policy");
        loop {
            let Some(gate) = gate.upgrade() else {
                return;
            };
            look(&gate, &mut directory);
            let gate_faults = gate.policies().faults().len();
            drop(gate);
            let unnoticed_max = if gate_faults == 0 { UNNOTICED_MAX } else { UNNOTICED_FAULTY_MAX };
            if watch.wait(unnoticed_max) == Wake::Over {
                return;
            }
        }
    })?;
    Ok(bell)
}

fn look(gate: &Gate, directory: &mut Directory) {
    let began = clock::now();
    let reloads = |result| metrics::counter!("podgate_policy_reloads_total", "result" => result);
    match directory.look() {
        Look::Unchanged => {
            if !gate.policies().faults().is_empty() {
                info!("the profiles on disk are again those in force");
            }
            gate.policies().set_faults(Vec::new());
            metrics::gauge!("podgate_policy_faults").set(0.0);
        }
        Look::Changed { documents, files_read } => {
            let read_ms = clock::now().since(began).as_millis() as u64;
            info!(files_read, read_ms, directory = %directory.root().display(), "profiles were read");
            gate.policies().set_files(documents);
            reloads("good").increment(1);
            metrics::gauge!("podgate_policy_faults").set(0.0);
        }
        Look::Faulty(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            if *gate.policies().faults() != faults {
                for fault in &faults {
                    error!(%fault, "a profile is faulty");
                }
                error!(
                    faults = faults.len(),
                    "the profiles are faulty as a whole; what was in force before stays in force"
                );
                reloads("faulty").increment(1);
            }
            metrics::gauge!("podgate_policy_faults").set(faults.len() as f64);
            gate.policies().set_faults(faults);
        }
    }
}
