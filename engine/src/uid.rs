//! A pod's uid.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    str,
};

/// Length of the uids that Kubernetes gives, in bytes.
const SHORT_BYTES: usize = 36;

/// A pod's uid. One as long as those of Kubernetes, which every grant holds, takes no allocation of its own.
#[derive(Clone)]
pub struct Uid(Repr);

#[derive(Clone)]
enum Repr {
    Short { bytes: [u8; SHORT_BYTES], len: u8 },
    Long(Box<str>),
}

impl Deref for Uid {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // It was text when it was put there.
            Repr::Short { bytes, len } => str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
            Repr::Long(text) => text,
        }
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(short) => {
                short.copy_from_slice(text.as_bytes());
                Self(Repr::Short { bytes, len: text.len() as u8 })
            }
            None => Self(Repr::Long(text.into())),
        }
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl From<Box<str>> for Uid {
    fn from(text: Box<str>) -> Self {
        Self::from(&*text)
    }
}

impl PartialEq for Uid {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Uid {}

impl Hash for Uid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_of_any_length_is_what_it_was() {
        for length in [0, 1, 35, 36, 37, 64, 1_000] {
            let text = "ü".repeat(length / 2) + &"a".repeat(length % 2);
            assert_eq!(&*Uid::from(&*text), text);
            assert_eq!(Uid::from(text.clone()), Uid::from(text.into_boxed_str()));
        }
    }
}
