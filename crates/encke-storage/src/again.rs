//! Trying again.

#![cfg(feature = "network")]

use crate::{StorageError, StorageResult};
use std::time::Duration;

/// Tries of one call before it counts as failed.
const TRIES: u32 = 6;
/// First pause between tries; doubles each time, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Repeats a call, named by `what`, while the failure may pass ([`StorageError::Unreachable`]).
pub(crate) fn retried<T>(what: &str, mut call: impl FnMut() -> StorageResult<T>) -> StorageResult<T> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..TRIES {
        match call() {
            Err(StorageError::Unreachable(e)) => {
                tracing::warn!(error = %e, what, attempt, "storage call failed, trying again");
                let mut random = [0u8; 1];
                let _ = getrandom::fill(&mut random);
                std::thread::sleep(pause.mul_f32(0.5 + f32::from(random[0]) / 255.0));
                pause *= 2;
            }
            other => return other,
        }
    }
    call()
}

/// Fills `out` with a part of a file that `read` reads, whole or not at all, and again while that may help.
pub(crate) fn read_part(out: &mut [u8], read: impl FnMut() -> StorageResult<Vec<u8>>) -> StorageResult<()> {
    if out.is_empty() {
        return Ok(());
    }
    let part = retried("get", read)?;
    if part.len() != out.len() {
        return Err(StorageError::Other(
            "a part of another length than asked for".into(),
        ));
    }
    out.copy_from_slice(&part);
    Ok(())
}
