//! What many grants have in common is kept once: the names of clusters and accounts, and the terms.

use std::{fmt, hash::Hash, ops::Deref, sync::Arc};

use rustc_hash::FxHashSet;

use crate::{
    grant::Terms,
    subject::{PodIdentity, Subject, SubjectKind},
};

/// Values of a pool at which those that nobody else holds are first sought.
const SWEEP_AT_MIN: usize = 1_024;

/// A name that many hold. It takes eight bytes in each of them, where a string takes twice that and its letters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Arc<Box<str>>);

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::from(Box::from(text))
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::from(text.into_boxed_str())
    }
}

impl From<Box<str>> for Word {
    fn from(text: Box<str>) -> Self {
        Self(Arc::new(text))
    }
}

/// Values of which equal ones are the same allocation, as long as somebody beside the pool holds it.
#[derive(Debug)]
struct Pool<T> {
    kept: FxHashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { kept: FxHashSet::default(), sweep_at: SWEEP_AT_MIN }
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The one that is kept of those that equal `value`.
    fn share(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(kept) = self.kept.get(&*value) {
            return Arc::clone(kept);
        }
        if self.kept.len() >= self.sweep_at {
            self.kept.retain(|kept| Arc::strong_count(kept) > 1);
            self.sweep_at = SWEEP_AT_MIN.max(self.kept.len() * 2);
        }
        self.kept.insert(Arc::clone(&value));
        value
    }
}

/// The pools. They hold at most twice what the living grants hold, and a thousand values more.
#[derive(Debug, Default)]
pub struct Shared {
    words: Pool<Box<str>>,
    terms: Pool<Terms>,
}

impl Shared {
    /// The terms, as every grant that has the same holds them.
    pub fn terms(&mut self, terms: Terms) -> Arc<Terms> {
        self.terms.share(Arc::new(terms))
    }

    /// The subject with the names that others have as well as these hold them.
    pub fn subject(&mut self, subject: &Subject) -> Arc<Subject> {
        let kind = match &subject.kind {
            SubjectKind::Host(name) => SubjectKind::Host(name.clone()),
            SubjectKind::Pod(pod) => SubjectKind::Pod(PodIdentity {
                namespace: self.word(&pod.namespace),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                service_account: self.word(&pod.service_account),
                node: self.word(&pod.node),
            }),
        };
        Arc::new(Subject { cluster: self.word(&subject.cluster), address: subject.address, kind })
    }

    fn word(&mut self, word: &Word) -> Word {
        Word(self.words.share(Arc::clone(&word.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_those_that_nobody_holds_go() {
        let mut pool = Pool::default();
        let first = pool.share(Arc::new(0));
        assert!(Arc::ptr_eq(&first, &pool.share(Arc::new(0))));
        for number in 1..10 * SWEEP_AT_MIN {
            drop(pool.share(Arc::new(number)));
            assert!(pool.kept.len() <= SWEEP_AT_MIN);
        }
        assert!(Arc::ptr_eq(&first, &pool.share(Arc::new(0))));
    }
}
