//! The live connection between a device and its server: JSON text frames over one WebSocket.
//!
//! The device speaks first ([`DeviceMessage::Hello`]), the server answers [`ServerMessage::Welcome`] or
//! [`ServerMessage::Refused`] and closes. A device without an account says [`DeviceMessage::Lobby`] instead, is
//! answered [`ServerMessage::Waiting`], and is asked nothing but [`Request::Register`]. From then on each side may ask: the server sends
//! [`ServerMessage::Request`] and gets a [`DeviceMessage::Reply`] of the same id, the device sends
//! [`DeviceMessage::Call`] and gets a [`ServerMessage::Answer`]. A call is acknowledged only after it has been
//! stored, and repeating one is harmless, so a device repeats what was not acknowledged before the connection broke.
//! No public server documents such a protocol; this one is ours (reference, section 0).

use crate::account_keys::Stretching;
use crate::types::{
    BackupJobAdvancedOptions, BackupJobDetail, JobEntry, OSInfo, RestoreJobAdvancedOptions, UserProfileConfig,
};
use serde::{Deserialize, Serialize};

/// Path of the WebSocket.
pub const LIVE_PATH: &str = "/api/encke/v1/device/live";
/// Path of the form call (`Username`) that tells how to stretch a password; answers [`Stretching`] as JSON. An
/// unknown user gets made-up but steady parameters.
pub const LOGIN_PARAMETERS_PATH: &str = "/api/encke/v1/device/login-parameters";
/// Path of the form call that answers the client program of the server's own platform, as bytes: to a device that names
/// itself (`Username`, `LoginKey`, `DeviceID`), to whoever brings an install token (`InstallToken`, which stays good) or an
/// account's log-in (`Username`, `Password`), and to everybody where the configuration says so.
pub const PROGRAM_PATH: &str = "/api/encke/v1/client/program";
/// Version of this protocol, in [`Hello`]. The server refuses others.
pub const PROTOCOL: u32 = 1;
/// The server pings at this interval in seconds, and either side gives up after three of silence.
pub const HEARTBEAT_SECONDS: u64 = 30;
/// Largest frame in bytes, either way. A directory listing or a profile fits many times over.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// A longer frame is sent as several WebSocket messages of at most this many bytes ([`parts`]): WebSocket libraries keep
/// a buffer as large as the largest message for as long as the connection lives, and a server has thousands of them.
pub const MAX_MESSAGE: usize = 4096;
/// Begins a message that is not the last of its frame. A whole frame begins with a brace.
const MORE: char = '+';
/// Begins the last message of a frame that has several.
const LAST: char = '=';
/// Most log lines in one [`Call::AppendLog`].
pub const MAX_LOG_BATCH: usize = 500;

/// The device's first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Account name.
    pub username: String,
    /// Login half of the stretched password, [`crate::account_keys::LoginKey::to_text`].
    pub login_key: String,
    /// Six digits; asked for only when the device is not registered yet and the account demands it.
    #[serde(default)]
    pub totp: String,
    /// Stable id of the device, 1 to 64 letters, digits or `-`.
    pub device_id: String,
    /// An install token in place of user name, login half and one-time code; registers the device.
    #[serde(default)]
    pub install_token: String,
    /// Registers the device if the account does not have it yet. Without it an unknown device is refused with
    /// `ERR_UNKNOWN_DEVICE`.
    pub register: bool,
    /// Host name, for a newly registered device.
    pub friendly_name: String,
    /// Version of the agent.
    pub client_version: String,
    /// Operating system and architecture, such as `linux/amd64`.
    pub platform: String,
    /// Details of the operating system.
    pub os: OSInfo,
    /// IANA name.
    pub time_zone: String,
    /// The device owner's consent to file names being shown to the server's users.
    pub allows_filenames: bool,
    /// Jobs that run on the device now; the server closes any other job it believes to run there.
    pub running_jobs: Vec<String>,
    /// SHA-256 of the program that runs, hexadecimal.
    #[serde(default)]
    pub program: String,
    /// SHA-256 of the program that the device is changing to; empty for none.
    #[serde(default)]
    pub updating_to: String,
}

/// First frame of a device that has no account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LobbyHello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// As in [`Hello`].
    pub device_id: String,
    /// As in [`Hello`].
    pub friendly_name: String,
    /// As in [`Hello`].
    pub client_version: String,
    /// As in [`Hello`].
    pub platform: String,
    /// As in [`Hello`].
    pub os: OSInfo,
    /// As in [`Hello`].
    pub time_zone: String,
}

/// What an install token stands for, in the welcome of the device that brought it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenKeys {
    /// Account name.
    pub username: String,
    /// [`crate::account_keys::LoginKey::to_text`].
    pub login_key: String,
    /// [`crate::account_keys::WrappingKey::to_text`].
    pub wrapping_key: String,
    /// The address to use from now on; empty for the one the device came by.
    pub server: String,
}

/// From device to server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DeviceMessage {
    /// First frame.
    Hello(Box<Hello>),
    /// First frame of a device that has no account.
    Lobby(Box<LobbyHello>),
    /// Answer to [`ServerMessage::Request`].
    Reply {
        /// Of the request.
        id: u64,
        /// 200, or 400 and more with a message.
        status: u16,
        /// For people.
        message: String,
        /// Depends on the request.
        #[serde(default)]
        body: serde_json::Value,
    },
    /// The device asks or reports.
    Call {
        /// Counts up on this connection.
        id: u64,
        /// What.
        call: Call,
    },
}

/// What a device asks or reports. Answered by [`ServerMessage::Answer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Call {
    /// State of a job, whole. Stored unless a newer one (by `Progress.Counter`) is there already.
    ReportJob {
        /// `Username` and `DeviceID` are set by the server.
        job: Box<BackupJobDetail>,
    },
    /// Log lines of a job. A line that is stored already is skipped.
    AppendLog {
        /// The job; it must have been reported before.
        job_id: String,
        /// Number of the first entry within the job's log, from 0.
        first: u64,
        /// At most [`MAX_LOG_BATCH`].
        entries: Vec<JobEntry>,
    },
    /// Answers [`ProfileAndHash`].
    GetProfile,
    /// Whether quotas that only the server can measure leave room for a backup. Answers [`QuotaLeft`].
    CheckQuota {
        /// Key in `Destinations`.
        destination: String,
    },
    /// An update that was asked for by [`Request::UpdateSoftware`] came to nothing.
    UpdateFailed {
        /// SHA-256 of the program that the device did not change to.
        program: String,
        /// Why, for people.
        problem: String,
    },
    /// Replaces the profile if `require_hash` is still its hash, else 409. Answers [`ProfileAndHash`].
    SetProfile {
        /// Hash the change is based on.
        require_hash: String,
        /// The whole profile.
        profile: Box<UserProfileConfig>,
    },
}

/// What quotas leave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QuotaLeft {
    /// Why no backup may run, for people; empty when one may.
    pub refused: String,
    /// Bytes that may still be stored; nothing for no limit.
    pub bytes: Option<i64>,
}

/// A profile and its hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProfileAndHash {
    /// The account's profile.
    pub profile: UserProfileConfig,
    /// Opaque; changes with the profile.
    pub hash: String,
}

/// From server to device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The device is logged in.
    Welcome {
        /// New for each connection.
        connection_id: String,
        /// The account.
        account: Box<ProfileAndHash>,
        /// Unix seconds, for the device to notice a wrong clock.
        server_time: i64,
        /// For a device that came with an install token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keys: Option<Box<TokenKeys>>,
    },
    /// The device waits in the lobby.
    Waiting {
        /// New for each connection.
        connection_id: String,
    },
    /// The device is not logged in, or has to leave the lobby; the connection closes.
    Refused {
        /// 403 for wrong credentials (do not retry), 449 for a missing second factor, 5xx to try again later.
        status: u16,
        /// For people.
        message: String,
    },
    /// The server asks.
    Request {
        /// Counts up on this connection.
        id: u64,
        /// What.
        request: Request,
    },
    /// Answer to [`DeviceMessage::Call`].
    Answer {
        /// Of the call.
        id: u64,
        /// 200, or 400 and more with a message.
        status: u16,
        /// For people.
        message: String,
        /// Depends on the call.
        #[serde(default)]
        body: serde_json::Value,
    },
}

/// What a server asks of a device. The body of the reply stands with each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Fetch the profile anew. No body.
    RefetchProfile,
    /// Start a backup by its rule. [`JobStarted`].
    RunBackup {
        /// Key in `BackupRules`.
        rule: String,
    },
    /// Start a backup. [`JobStarted`].
    RunBackupCustom {
        /// Key in `Sources`.
        source: String,
        /// Key in `Destinations`.
        destination: String,
        /// As given by the caller.
        options: Box<BackupJobAdvancedOptions>,
    },
    /// Start a restore. [`JobStarted`].
    RunRestore {
        /// Key in `Sources`; empty when the snapshot is named.
        source: String,
        /// Key in `Destinations`.
        destination: String,
        /// Empty for the newest of source and destination.
        snapshot: String,
        /// Full paths inside the snapshot; empty for everything.
        paths: Vec<String>,
        /// How and where to.
        options: Box<RestoreJobAdvancedOptions>,
        /// Files, bytes and directories to expect, 0 for unknown.
        known_files: i64,
        /// See `known_files`.
        known_bytes: i64,
        /// See `known_files`.
        known_dirs: i64,
    },
    /// Cancel a running job. No body.
    CancelJob {
        /// The job.
        job_id: String,
        /// Its `CancellationID`.
        cancellation_id: String,
    },
    /// Snapshots of a vault: array of `VaultSnapshot`.
    ListSnapshots {
        /// Key in `Destinations`.
        destination: String,
    },
    /// Children of a tree: array of `StoredObject`.
    StoredObjects {
        /// Key in `Destinations`.
        destination: String,
        /// Snapshot id.
        snapshot: String,
        /// `subtree` of the parent object; empty for the snapshot's root.
        tree: String,
    },
    /// A part of a file's content: [`FilePart`].
    ReadFile {
        /// Key in `Destinations`.
        destination: String,
        /// Snapshot id.
        snapshot: String,
        /// Full path inside the snapshot.
        path: String,
        /// Bytes to skip.
        offset: u64,
        /// Most bytes to answer.
        length: u32,
    },
    /// Entries of a folder on the device: array of `StoredObject`.
    BrowseFilesystem {
        /// Absolute path; empty for the root.
        path: String,
    },
    /// Try to reach a destination and list it. No body.
    PingDestination {
        /// Location with credentials.
        location: Box<crate::types::DestinationLocation>,
    },
    /// Log in with another password from now on. The device tries it first and keeps the old one if it fails. No body.
    UpdateLoginPassword {
        /// In clear: the device alone can stretch it into the half that never leaves it.
        password: String,
    },
    /// Connect to another address from now on. The device tries it first and keeps the old one if it fails. No body.
    UpdateLoginUrl {
        /// Such as `https://backup.example.org/`.
        url: String,
        /// Take it over without a try.
        force: bool,
    },
    /// Look after a vault. [`JobStarted`].
    Upkeep {
        /// Key in `Destinations`.
        destination: String,
        /// What to do.
        task: Upkeep,
    },
    /// Find files in snapshots: map of snapshot id to array of `SearchResultFileInfo`.
    SearchSnapshots {
        /// Key in `Destinations`.
        destination: String,
        /// Where to look.
        snapshots: Vec<String>,
        /// What to look for.
        filter: Box<crate::types::SearchClause>,
    },
    /// List the device's disks: array of `DiskDrive`.
    BrowseDisks,
    /// List the databases of a MySQL or MariaDB server: array of names.
    BrowseMysql {
        /// How to log in.
        connection: Box<crate::types::MySQLConnection>,
    },
    /// List the databases of a MongoDB server: array of names.
    BrowseMongodb {
        /// How to log in.
        connection: Box<crate::types::MongoDBConnection>,
    },
    /// What a host of Proxmox has: arrays of `PVEVM`, of names, of `PVEStorageName`.
    BrowseProxmox {
        /// How to log in.
        connection: Box<crate::types::SSHConnection>,
        /// What to list.
        question: ProxmoxQuestion,
    },
    /// What a snapshot notes about what it holds.
    SnapshotNotes {
        /// About what.
        of: Noted,
        /// Key in `Destinations`.
        destination: String,
        /// Snapshot id.
        snapshot: String,
    },
    /// End the device's process; nobody starts it again by itself. No body.
    Stop,
    /// Forget the account and end the process: somebody has to register the device again. No body.
    ForgetLogin,
    /// Take the program out of the system and end the process. No body.
    Uninstall {
        /// Remove settings and what waits to be delivered as well.
        remove_settings: bool,
    },
    /// Change to the server's program, fetched from [`PROGRAM_PATH`], once no job runs. [`UpdateBegun`], as soon as the
    /// program has been fetched and tried or can not be, or after [`UPDATE_REPLY_SECONDS`]; what fails later is told by
    /// [`Call::UpdateFailed`].
    UpdateSoftware {
        /// The program.
        program: Program,
        /// Cancel the jobs that run instead of waiting for them.
        interrupt: bool,
    },
    /// Close the connection; the device connects again. No body.
    DropConnection,
    /// Leave the lobby and register with this account. No body.
    Register {
        /// Account name.
        username: String,
        /// In clear: the device alone can stretch it into the half that never leaves it.
        password: String,
        /// Six digits, where the account asks for them.
        totp: String,
    },
}

/// A client program that a server hands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version, as devices report it.
    pub version: String,
    /// Where it runs, as in [`Hello::platform`].
    pub platform: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Operating system and architecture of this program, in the names Go gives them, such as `linux/amd64`.
#[must_use]
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// Most seconds after which a device answers [`Request::UpdateSoftware`], whatever it has come to.
pub const UPDATE_REPLY_SECONDS: u64 = 60;

/// Reply body of [`Request::UpdateSoftware`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateBegun {
    /// The device runs this very program already.
    Unchanged,
    /// The program is still on its way.
    Fetching,
    /// The program is there and works; the device changes to it when no job runs.
    Ready,
}

/// What snapshots of some items hold notes about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    /// Disks that were saved: array of `DiskDrive`.
    Disks,
    /// Virtual machines that were saved: array of `PVEVM`.
    Machines,
}

/// What is asked about a host of Proxmox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ProxmoxQuestion {
    /// The machines of its cluster.
    Machines,
    /// The cluster's nodes.
    Nodes,
    /// Where disks of machines can lie.
    Storage {
        /// On this node; on any if empty.
        node: String,
    },
}

/// What can be done to a vault, each as a job of its own class.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Upkeep {
    /// Delete the snapshots that the retention rules do not keep, and free what only they used.
    Retention,
    /// Verify everything that is stored, byte by byte.
    DeepVerify,
    /// Bring the index in line with what is stored.
    Reindex,
    /// Remove locks that other programs left.
    Unlock {
        /// Also those that may be held.
        all: bool,
    },
    /// Delete snapshots.
    DeleteSnapshots {
        /// Their ids.
        snapshots: Vec<String>,
    },
}

/// Reply body of a request that started a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobStarted {
    /// GUID of the job. It has been reported to the server before this reply.
    pub job_id: String,
}

/// A part of a file of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilePart {
    /// Bytes of the whole file.
    pub size: u64,
    /// The part, in base64.
    pub data: String,
}

/// Answer to [`LOGIN_PARAMETERS_PATH`].
pub type LoginParameters = Stretching;

/// The WebSocket messages that carry a frame.
#[must_use]
pub fn parts(frame: String) -> Vec<String> {
    if frame.len() <= MAX_MESSAGE {
        return vec![frame];
    }
    let mut parts = Vec::with_capacity(frame.len() / MAX_MESSAGE + 1);
    let mut rest = frame.as_str();
    while !rest.is_empty() {
        let most = rest.len().min(MAX_MESSAGE - 1);
        let end = (0..=most).rev().find(|&i| rest.is_char_boundary(i));
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let mut message = String::with_capacity(part.len() + 1);
        message.push(if rest.is_empty() { LAST } else { MORE });
        message.push_str(part);
        parts.push(message);
    }
    parts
}

/// Puts frames together from WebSocket messages.
#[derive(Debug, Default)]
pub struct Joiner(String);

impl Joiner {
    /// Takes a message; answers the frame that it completes.
    ///
    /// # Errors
    /// The frame gets larger than [`MAX_FRAME`].
    pub fn take(&mut self, message: &str) -> Result<Option<String>, FrameTooLarge> {
        let Some(part) = message.strip_prefix([MORE, LAST]) else {
            return Ok(Some(message.to_string()));
        };
        if self.0.len() + part.len() > MAX_FRAME {
            return Err(FrameTooLarge);
        }
        self.0.push_str(part);
        if message.starts_with(MORE) {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.0)))
    }
}

/// A frame is larger than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame has more than {MAX_FRAME} bytes")]
pub struct FrameTooLarge;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in proptest::collection::vec(("[a-zü€😀+=]{0,60}", 1usize..300), 1..5),
        ) {
            let mut joiner = Joiner::default();
            for (text, times) in frames {
                let frame = format!("{{{}}}", text.repeat(times));
                let parts = parts(frame.clone());
                prop_assert!(parts.iter().all(|p| p.len() <= MAX_MESSAGE));
                let (last, first) = parts.split_last().unwrap();
                for part in first {
                    prop_assert_eq!(joiner.take(part), Ok(None));
                }
                prop_assert_eq!(joiner.take(last), Ok(Some(frame)));
            }
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut joiner = Joiner::default();
        let part = format!("+{}", "x".repeat(MAX_MESSAGE));
        let taken = (0..=MAX_FRAME / MAX_MESSAGE).map(|_| joiner.take(&part));
        assert_eq!(taken.last(), Some(Err(FrameTooLarge)));
    }
}
