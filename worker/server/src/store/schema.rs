//! The tables, and how an older database becomes a present one.
//!
//! Times are microseconds since the epoch, identifiers are text, and what only ever travels as a whole is JSON.

use rusqlite::Connection;

use super::OpenError;

/// Each step takes a database from the version of its index to the next; a step that was released is never edited.
const STEPS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// Brings a database to the present version.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(OpenError::TooNew { found, known });
    }
    for (version, step) in (1..=known)
        .zip(STEPS)
        .filter(|(version, _)| *version > found)
    {
        let transaction = conn.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
