//! Telling zeros from content.

/// Bytes looked at between two decisions, so that they are looked at many at once.
const STEP: usize = 4096;

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(STEP)
        .all(|step| step.iter().fold(0, |all, byte| all | byte) == 0)
}
