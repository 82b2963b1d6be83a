//! The Portal's side: documents are read, applied with an etag, and deleted.

use std::{collections::BTreeMap, sync::Arc};

use podgate_engine::{
    common_ports::CommonPorts,
    fault::Fault,
    profile::{Profile, Source, Sourced},
};

use crate::{
    gate::{Gate, Refusal, policies::Written},
    source::directory::Documents,
    store::{Kind, StoreError},
};

/// Why a document was not applied or deleted.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// There is none of this name.
    #[error("there is no {kind} `{name}`")]
    NotFound {
        /// What kind.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// It comes from a file.
    #[error("`{name}` comes from the file {file} and is read-only here; change the file")]
    ReadOnly {
        /// The name.
        name: String,
        /// The file.
        file: Arc<str>,
    },
    /// It has changed since it was read.
    #[error("`{name}` has the etag {has}, not {expected}; read it again")]
    EtagMismatch {
        /// The name.
        name: String,
        /// The etag that it has; empty where there is none of this name.
        has: String,
        /// The etag that was expected.
        expected: String,
    },
    /// The document is faulty.
    #[error("the document has {} faults", .0.len())]
    Faulty(Vec<Fault>),
    /// The call got no further.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether a change is to be made, or only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make it.
    Apply,
    /// Check it.
    ValidateOnly,
}

/// A document as it stands after a change.
pub type Applied<T> = Sourced<T>;

/// A kind of document that the API keeps.
pub trait ApiDocument: Sized + Send + Sync + 'static {
    /// The kind, in the store.
    const KIND: Kind;
    /// The kind, for messages.
    const NOUN: &'static str;
    /// Its name.
    fn name(&self) -> Arc<str>;
    /// Its digest.
    fn etag(&self) -> u64;
    /// Where such documents are.
    fn of(documents: &Documents) -> &BTreeMap<Arc<str>, Sourced<Self>>;
    /// Where such documents are, to be changed.
    fn of_mut(documents: &mut Documents) -> &mut BTreeMap<Arc<str>, Sourced<Self>>;
}

impl ApiDocument for Profile {
    const KIND: Kind = Kind::Profile;
    const NOUN: &'static str = "profile";

    fn name(&self) -> Arc<str> {
        self.name.shared()
    }

    fn etag(&self) -> u64 {
        Profile::etag(self)
    }

    fn of(documents: &Documents) -> &BTreeMap<Arc<str>, Sourced<Self>> {
        &documents.profiles
    }

    fn of_mut(documents: &mut Documents) -> &mut BTreeMap<Arc<str>, Sourced<Self>> {
        &mut documents.profiles
    }
}

impl ApiDocument for CommonPorts {
    const KIND: Kind = Kind::CommonPorts;
    const NOUN: &'static str = "common-ports document";

    fn name(&self) -> Arc<str> {
        self.name.shared()
    }

    fn etag(&self) -> u64 {
        CommonPorts::etag(self)
    }

    fn of(documents: &Documents) -> &BTreeMap<Arc<str>, Sourced<Self>> {
        &documents.common
    }

    fn of_mut(documents: &mut Documents) -> &mut BTreeMap<Arc<str>, Sourced<Self>> {
        &mut documents.common
    }
}

/// An etag as the API shows it.
pub fn etag_text(etag: u64) -> String {
    podgate_engine::digest::hex(etag)
}

impl Gate {
    /// Creates or replaces a document: durable and in force when this returns. Blocks.
    ///
    /// `encoded` is what the store keeps of it.
    pub fn apply_document<T: ApiDocument>(
        &self,
        document: T,
        encoded: Vec<u8>,
        expected_etag: &str,
        effect: Effect,
    ) -> Result<Applied<T>, DocumentError> {
        let mut written = self.policies.written();
        let name = document.name();
        writable::<T>(&written, &name)?;
        expect_etag(T::of(&written.api).get(&name), &name, expected_etag)?;
        let etag = document.etag();
        let applied = Sourced { document: Arc::new(document), etag, source: Source::Api };
        if effect == Effect::ValidateOnly {
            return Ok(applied);
        }
        let pending = self.store.put_document(T::KIND, &name, encoded).map_err(Refusal::from)?;
        pending.blocking_recv().unwrap_or(Err(StoreError::Closed)).map_err(Refusal::from)?;
        T::of_mut(&mut written.api).insert(name, applied.clone());
        self.policies.swap(&written);
        Ok(applied)
    }

    /// Deletes a document: durable and in force when this returns. Blocks.
    pub fn delete_document<T: ApiDocument>(
        &self,
        name: &str,
        expected_etag: &str,
    ) -> Result<(), DocumentError> {
        let mut written = self.policies.written();
        writable::<T>(&written, name)?;
        let current = T::of(&written.api).get(name);
        if current.is_none() {
            return Err(DocumentError::NotFound { kind: T::NOUN, name: name.to_owned() });
        }
        expect_etag(current, name, expected_etag)?;
        let pending = self.store.delete_document(T::KIND, name).map_err(Refusal::from)?;
        pending.blocking_recv().unwrap_or(Err(StoreError::Closed)).map_err(Refusal::from)?;
        T::of_mut(&mut written.api).remove(name);
        self.policies.swap(&written);
        Ok(())
    }
}

/// Whether the API may write the name. Until the files have been read nobody knows.
fn writable<T: ApiDocument>(written: &Written, name: &str) -> Result<(), DocumentError> {
    let files = written.files.as_ref().ok_or(Refusal::NoPolicy)?;
    match T::of(files).get(name).map(|document| &document.source) {
        Some(Source::File(file)) => {
            Err(DocumentError::ReadOnly { name: name.to_owned(), file: Arc::clone(file) })
        }
        Some(Source::Api) | None => Ok(()),
    }
}

fn expect_etag<T>(current: Option<&Sourced<T>>, name: &str, expected: &str) -> Result<(), DocumentError> {
    let has = current.map(|document| etag_text(document.etag)).unwrap_or_default();
    if expected.is_empty() || *expected == has {
        return Ok(());
    }
    Err(DocumentError::EtagMismatch { name: name.to_owned(), has, expected: expected.to_owned() })
}
