//! Key files: the master key, sealed with a key stretched from a password by scrypt (restic design document, section
//! "Keys").

use crate::crypto::{Key, random};
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke_storage::{Backend, FileKind, StorageError};
use serde::{Deserialize, Serialize};

/// Cost parameters of new keys; restic's own calibration ends near these.
const LOG_N: u8 = 15;
/// Memory that a key file may ask scrypt to take, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// Most times that a key file may ask scrypt to work through it.
const MAX_PARALLEL: u32 = 16;
/// Most key files tried with one password.
const MAX_KEYS: usize = 100;

#[derive(Serialize, Deserialize)]
pub(crate) struct KeyFile {
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// What a listing shows of a key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    /// Name of its file.
    pub id: Id,
    /// User who made it.
    pub username: String,
    /// Machine it was made on.
    pub hostname: String,
    /// When, RFC 3339.
    pub created: String,
}

fn damaged_parameters() -> RepoError {
    RepoError::Damaged("a key file's parameters are out of bounds".into())
}

impl KeyFile {
    /// What scrypt is to do, and the bytes of memory that it takes for that.
    pub(crate) fn cost(&self) -> RepoResult<(scrypt::Params, u64)> {
        let damaged = damaged_parameters;
        // RFC 7914, section 6: a block has 128 * r bytes, and there are N of them and p more.
        let memory = (u64::from(self.n) + u64::from(self.p))
            .checked_mul(128 * u64::from(self.r))
            .filter(|m| *m <= MAX_MEMORY && self.p <= MAX_PARALLEL)
            .ok_or_else(damaged)?;
        if self.kdf != "scrypt" || !self.n.is_power_of_two() {
            return Err(damaged());
        }
        let log_n = u8::try_from(self.n.ilog2()).map_err(|_| damaged())?;
        let params = scrypt::Params::new(log_n, self.r, self.p, 32).map_err(|_| damaged())?;
        Ok((params, memory))
    }
}

fn stretch(password: &str, file: &KeyFile) -> RepoResult<Key> {
    let damaged = damaged_parameters;
    let (params, _) = file.cost()?;
    let salt = STANDARD.decode(&file.salt).map_err(|_| damaged())?;
    let mut out = [0; 64];
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut out).map_err(|_| damaged())?;
    Ok(Key::from_bytes(&out))
}

/// Adds a password for a master key. Answers the new key file's name.
pub(crate) fn add(backend: &dyn Backend, master: &Key, password: &str) -> RepoResult<Id> {
    let mut salt = [0; 64];
    random(&mut salt)?;
    let mut file = KeyFile {
        created: jiff::Timestamp::now().to_string(),
        username: crate::owners::current_user(),
        hostname: crate::owners::host_name(),
        kdf: "scrypt".into(),
        n: 1 << LOG_N,
        r: 8,
        p: 1,
        salt: STANDARD.encode(salt),
        data: String::new(),
    };
    let mut sealed = Vec::new();
    stretch(password, &file)?.seal(master.to_json().as_bytes(), &mut sealed)?;
    file.data = STANDARD.encode(sealed);
    let text = serde_json::to_vec(&file).map_err(|e| RepoError::Invalid(e.to_string()))?;
    let id = Id::of(&text);
    backend.put(FileKind::Key, &id.to_string(), &text)?;
    Ok(id)
}

/// Finds the key file that a password opens and whose key is `right`: programs that tried to make the same repository
/// at once may have left others.
pub(crate) fn open(
    backend: &dyn Backend,
    password: &str,
    right: impl Fn(&Key) -> bool,
) -> RepoResult<(Id, Key)> {
    let (mut wrong, mut damaged) = (None, None);
    for (name, _) in backend.list(FileKind::Key)?.into_iter().take(MAX_KEYS) {
        let Some(id) = Id::parse(&name) else { continue };
        let text = backend.get(FileKind::Key, &name)?;
        if Id::of(&text) != id {
            damaged = Some(damage(&name));
            continue;
        }
        let Ok(file) = serde_json::from_slice::<KeyFile>(&text) else {
            continue;
        };
        let Ok(sealed) = STANDARD.decode(&file.data) else {
            continue;
        };
        let stretched = match stretch(password, &file) {
            Ok(key) => key,
            Err(e) => {
                damaged = Some(format!("key {name}: {e}"));
                continue;
            }
        };
        if let Ok(json) = stretched.open(&sealed) {
            let key = Key::from_json(&json)?;
            if right(&key) {
                return Ok((id, key));
            }
            wrong = Some((id, key));
        }
    }
    // It may have been the one that this password opens.
    wrong.ok_or_else(|| damaged.map_or(RepoError::WrongPassword, RepoError::Damaged))
}

/// The master key in a key file, as it stands there.
#[cfg(feature = "fuzzing")]
pub(crate) fn master_json(file: &[u8], password: &str) -> Option<Vec<u8>> {
    let file: KeyFile = serde_json::from_slice(file).ok()?;
    let sealed = STANDARD.decode(&file.data).ok()?;
    stretch(password, &file).ok()?.open(&sealed).ok()
}

fn damage(name: &str) -> String {
    format!("key {name}: the content is not what the name says")
}

/// What is wrong with key files, a line each.
pub(crate) fn damaged(backend: &dyn Backend) -> RepoResult<Vec<String>> {
    let mut out = Vec::new();
    for (name, _) in backend.list(FileKind::Key)? {
        match backend.get(FileKind::Key, &name) {
            Ok(text) if Id::of(&text).to_string() == name => {}
            Ok(_) => out.push(damage(&name)),
            Err(StorageError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(out)
}

/// All key files.
pub(crate) fn list(backend: &dyn Backend) -> RepoResult<Vec<KeyInfo>> {
    let mut out = Vec::new();
    for (name, _) in backend.list(FileKind::Key)? {
        let text = backend.get(FileKind::Key, &name)?;
        if let (Some(id), Ok(file)) = (Id::parse(&name), serde_json::from_slice::<KeyFile>(&text)) {
            out.push(KeyInfo {
                id,
                username: file.username,
                hostname: file.hostname,
                created: file.created,
            });
        }
    }
    Ok(out)
}
