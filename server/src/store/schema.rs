//! Which tables a store has, and which version its records are of.

use redb::{ReadableTable as _, TableHandle as _, WriteTransaction};

use crate::store::{
    StoreError,
    database::{GRANTS, META},
    finding::Finding,
};

/// The version of the records that this podgate writes, and the latest that it reads. It rises where an older podgate
/// would misread what a newer one wrote; a field that an older one may leave alone does not raise it.
pub(crate) const VERSION: u64 = 1;

const VERSION_KEY: &str = "schema";

/// Marks a store that has just been made.
pub(crate) fn stamp(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(GRANTS)?;
    write.open_table(META)?.insert(VERSION_KEY, VERSION)?;
    Ok(())
}

/// Tells what speaks against reading a database as a store. One from before versions were written is of the first.
pub(crate) fn check(write: &WriteTransaction) -> Result<Option<Finding>, StoreError> {
    if !write.list_tables()?.any(|table| table.name() == META.name()) {
        return Ok(Some(Finding::OtherDatabase));
    }
    let mut meta = write.open_table(META)?;
    let found = meta.get(VERSION_KEY)?.map(|version| version.value());
    match found {
        Some(found @ ..=VERSION) if found > 0 => Ok(None),
        Some(found) => Ok(Some(Finding::Schema { found, known: VERSION })),
        None => {
            meta.insert(VERSION_KEY, VERSION)?;
            Ok(None)
        }
    }
}
