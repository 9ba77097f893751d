//! The account's profile as the server last sent it, on disk and encrypted, so that the device knows its work without
//! the server.

use crate::error::{AgentError, AgentResult};
use crate::settings::write_private;
use encke_api::account_keys::WrappingKey;
use encke_api::live::ProfileAndHash;
use std::fs;
use std::path::Path;

const FILE: &str = "profile.sealed";
/// What the key is bound to.
const PLACE: &str = "profile";

/// Keeps a profile.
pub(crate) fn save(data_dir: &Path, key: &WrappingKey, account: &ProfileAndHash) -> AgentResult<()> {
    let text = serde_json::to_vec(account).map_err(|e| AgentError::Protocol(e.to_string()))?;
    write_private(data_dir, FILE, key.wrap(PLACE, &text)?.as_bytes())
}

/// The profile that was kept, if there is one that can be read.
pub(crate) fn load(data_dir: &Path, key: &WrappingKey) -> Option<ProfileAndHash> {
    let sealed = fs::read_to_string(data_dir.join(FILE)).ok()?;
    let text = key.unwrap_secret(PLACE, &sealed);
    let account = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
    if account.is_none() {
        tracing::warn!("the profile that was kept can not be read; waiting for the server's");
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_profile_is_read_with_its_key_alone_and_not_in_clear_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let key = WrappingKey::from_bytes([7; 32]);
        let mut account = ProfileAndHash {
            profile: Default::default(),
            hash: "h1".into(),
        };
        account.profile.username = "a-name-to-look-for".into();
        save(folder.path(), &key, &account).unwrap();
        let loaded = load(folder.path(), &key).unwrap();
        assert_eq!((loaded.hash.as_str(), &loaded.profile), ("h1", &account.profile));
        assert!(load(folder.path(), &WrappingKey::from_bytes([8; 32])).is_none());
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains("a-name-to-look-for"));
    }
}
