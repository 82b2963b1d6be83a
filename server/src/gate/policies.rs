//! How policy comes into force: documents of files and of the API, joined, compiled, swapped as a whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use podgate_engine::policy::PolicySet;
use tracing::{info, warn};

use crate::{
    clock, config::values::Defaults, gate::in_force::InForce, gate::refusal::Refusal, limits::rates::Rates,
    source::directory::Documents,
};

/// Policy, as it is in force and as it was written.
#[derive(Debug)]
pub struct Policies {
    in_force: ArcSwapOption<InForce>,
    rates: Rates,
    written: Mutex<Written>,
    faults: ArcSwap<Vec<String>>,
    defaults: Defaults,
}

/// The documents as they were written.
#[derive(Debug)]
pub struct Written {
    /// Of files; none until they have been read once.
    pub files: Option<Documents>,
    /// Of the API.
    pub api: Documents,
}

impl Policies {
    /// Policy from the API's documents; `files` says whether there are none to wait for.
    pub fn new(api: Documents, files: Option<Documents>, defaults: Defaults) -> Self {
        let policies = Self {
            in_force: ArcSwapOption::empty(),
            rates: Rates::default(),
            written: Mutex::new(Written { files, api }),
            faults: ArcSwap::default(),
            defaults,
        };
        policies.swap(&policies.written());
        policies
    }

    /// The policy in force. The guard is short-lived; for anything that waits, clone the `Arc`.
    pub fn in_force(&self) -> Result<Guard<Option<Arc<InForce>>>, Refusal> {
        let guard = self.in_force.load();
        if guard.is_some() { Ok(guard) } else { Err(Refusal::NoPolicy) }
    }

    /// The limits that Envoys ask about.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The documents as they were written. Holding this keeps others from changing policy.
    pub fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts newly read files in force.
    pub fn set_files(&self, files: Documents) {
        let mut written = self.written();
        for name in files.profiles.keys().filter(|name| written.api.profiles.contains_key(*name)) {
            warn!(app = %name, "a file's profile hides the API's of the same name");
        }
        // The API has no rate limits: only here do they change.
        self.rates.set(files.rate_limits.values().map(|limits| &limits.document));
        metrics::gauge!("podgate_policy_rate_limits").set(files.rate_limits.len() as f64);
        written.files = Some(files);
        self.set_faults(Vec::new());
        self.swap(&written);
    }

    /// Notes that the files are faulty; what is in force stays so.
    pub fn set_faults(&self, faults: Vec<String>) {
        self.faults.store(Arc::new(faults));
    }

    /// The faults of the last reading of the files; none if it was good.
    pub fn faults(&self) -> Arc<Vec<String>> {
        self.faults.load_full()
    }

    /// Compiles what is written and puts it in force, if the files have been read.
    pub fn swap(&self, written: &Written) {
        let Some(files) = &written.files else {
            return;
        };
        let began = clock::now();
        let Documents { mut profiles, mut common, .. } = written.api.clone();
        profiles.extend(files.profiles.iter().map(|(name, profile)| (Arc::clone(name), profile.clone())));
        common.extend(files.common.iter().map(|(name, ports)| (Arc::clone(name), ports.clone())));
        let policy = PolicySet::compile(profiles, common);
        let in_force = InForce::new(policy, self.defaults);
        let policy = in_force.policy();
        info!(
            profiles = policy.profiles().len(),
            common_ports = policy.common().len(),
            revision = format!("{:016x}", policy.revision()),
            compile_ms = clock::now().since(began).as_millis() as u64,
            "policy is in force"
        );
        metrics::gauge!("podgate_policy_profiles").set(policy.profiles().len() as f64);
        metrics::gauge!("podgate_policy_common_ports").set(policy.common().len() as f64);
        self.in_force.store(Some(Arc::new(in_force)));
    }
}
