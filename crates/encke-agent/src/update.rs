//! Changing to another program, as the server asks: fetched, checked against the hash that came over the agent's own
//! connection, tried, and put in the place of the present one when no job runs. The old one stays beside it until the new
//! one is connected; a new one that does not get that far is put back by its own next start, or after a while.

use crate::error::{AgentError, AgentResult};
use crate::settings::write_private;
use crate::{Agent, Farewell, jobs};
use encke_api::live::{Call, PROGRAM_PATH, Program, UPDATE_REPLY_SECONDS, UpdateBegun, platform};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

/// Remembers in the data folder what is being changed.
const FILE: &str = "update.json";
/// A new program that was started this often without getting connected is put back.
const MAX_STARTS: u32 = 3;
/// A new program that runs this long without getting connected is put back.
const CONFIRM_TIME: Duration = Duration::from_secs(30 * 60);
/// Fetching is tried this often.
const TRIES: u32 = 3;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(5);
/// A program must have arrived within this time.
const FETCH_TIME: Duration = Duration::from_secs(2 * 3600);
/// A program is tried by a command that takes no time.
const TRIAL_TIME: Duration = Duration::from_secs(30);
/// How often it is looked whether jobs have ended.
const LOOK: Duration = Duration::from_millis(500);
/// What was about to become a job has become one within this time.
const SETTLE: Duration = Duration::from_secs(1);
/// Largest program that is fetched, in bytes.
const MAX_SIZE: u64 = 1 << 30;

/// The program that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// SHA-256, hexadecimal; empty where the program can not be read.
    pub sha256: String,
    /// Where it lies; nothing where its file was removed or replaced while it ran.
    path: Option<PathBuf>,
}

/// What the system knows the running program by.
const SELF: &str = "/proc/self/exe";

/// Where the running program lies; nothing where its file was removed or replaced.
fn own_path() -> Option<PathBuf> {
    let path = fs::read_link(SELF).ok()?;
    let (there, own) = (fs::metadata(&path).ok()?, fs::metadata(SELF).ok()?);
    ((there.dev(), there.ino()) == (own.dev(), own.ino())).then_some(path)
}

impl Own {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let sha256 = File::open(SELF).and_then(|mut f| hash(&mut f));
        Self {
            sha256: sha256.unwrap_or_else(|e| {
                tracing::warn!(error = %e, "this program's own file can not be read, so it can not be updated");
                String::new()
            }),
            path: own_path(),
        }
    }

    /// Where it lay when it was started.
    pub(crate) fn path(&self) -> AgentResult<PathBuf> {
        let gone = "the program's file was replaced while it ran; restart the agent first";
        self.path.clone().ok_or_else(|| AgentError::Invalid(gone.into()))
    }
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => hasher.update(&block[..n]),
        }
    }
}

/// An update on its way.
pub(crate) struct Underway {
    program: Program,
    interrupt: AtomicBool,
    stage: watch::Receiver<Stage>,
}

impl Underway {
    pub(crate) fn target(&self) -> &str {
        &self.program.sha256
    }
}

#[derive(Clone, Debug)]
enum Stage {
    Fetching,
    Ready,
    /// Status and message.
    Failed(u16, String),
}

/// What is written down before a program is replaced.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Where the program lies.
    program: PathBuf,
    /// Where the old one lies meanwhile.
    old: PathBuf,
    /// SHA-256 of the old one.
    from: String,
    /// SHA-256 of the new one.
    to: String,
    /// How often the new one was started.
    starts: u32,
    /// Why the old one is back; empty while it is not.
    problem: String,
}

impl Note {
    fn load(data_dir: &Path) -> Option<Self> {
        let text = fs::read(data_dir.join(FILE)).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|e| tracing::warn!(error = %e, "what was noted of an update can not be read"))
            .ok()
    }

    fn save(&self, data_dir: &Path) -> AgentResult<()> {
        let text = serde_json::to_vec(self).map_err(|e| AgentError::Protocol(e.to_string()))?;
        write_private(data_dir, FILE, &text)
    }

    fn forget(&self, data_dir: &Path) {
        let _ = fs::remove_file(&self.old);
        let _ = fs::remove_file(data_dir.join(FILE));
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> AgentError + '_ {
    move |error| AgentError::File {
        path: path.to_path_buf(),
        error,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The program's name with something behind it, in the same folder.
fn beside(program: &Path, suffix: &str) -> PathBuf {
    let mut name = program.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    program.with_file_name(name)
}

/// Begins to change to another program, or goes on with it. Answers once it is known whether the program works, or after
/// [`UPDATE_REPLY_SECONDS`].
pub(crate) async fn begin(agent: &Arc<Agent>, program: Program, interrupt: bool) -> AgentResult<UpdateBegun> {
    if program.platform != platform() {
        return Err(AgentError::Unsupported(format!(
            "the program is for {}, and this is {}",
            program.platform,
            platform()
        )));
    }
    if program.sha256 == agent.own.sha256 {
        return Ok(UpdateBegun::Unchanged);
    }
    if program.size > MAX_SIZE {
        return Err(AgentError::Invalid(format!(
            "a program has at most {MAX_SIZE} bytes"
        )));
    }
    let mut stage = {
        let mut present = agent.update.lock();
        match &*present {
            Some(underway) if underway.program.sha256 == program.sha256 => {
                underway.interrupt.fetch_or(interrupt, Ordering::SeqCst);
                underway.stage.clone()
            }
            Some(_) => {
                return Err(AgentError::Invalid(
                    "this device is changing to another program already".into(),
                ));
            }
            None => {
                let (tell, stage) = watch::channel(Stage::Fetching);
                let underway = Arc::new(Underway {
                    program,
                    interrupt: AtomicBool::new(interrupt),
                    stage: stage.clone(),
                });
                *present = Some(underway.clone());
                tokio::spawn(carry_out(agent.clone(), underway, tell));
                stage
            }
        }
    };
    let known = stage.wait_for(|s| !matches!(s, Stage::Fetching));
    match tokio::time::timeout(Duration::from_secs(UPDATE_REPLY_SECONDS), known).await {
        Err(_) => Ok(UpdateBegun::Fetching),
        Ok(Err(_)) => Err(AgentError::Protocol("the update broke off".into())),
        Ok(Ok(stage)) => match &*stage {
            Stage::Failed(status, message) => Err(AgentError::Server {
                status: *status,
                message: message.clone(),
            }),
            Stage::Ready | Stage::Fetching => Ok(UpdateBegun::Ready),
        },
    }
}

async fn carry_out(agent: Arc<Agent>, underway: Arc<Underway>, tell: watch::Sender<Stage>) {
    let version = &underway.program.version;
    tracing::info!(
        version,
        program = underway.target(),
        "changing to the server's program"
    );
    let Err(e) = change(&agent, &underway, &tell).await else {
        return;
    };
    tracing::error!(error = %e, "the program was not changed");
    agent.jobs.lock().open();
    agent.closing.store(false, Ordering::SeqCst);
    agent.profile_changed.notify_one();
    *agent.update.lock() = None;
    tell.send_replace(Stage::Failed(e.status(), e.to_string()));
    let call = Call::UpdateFailed {
        program: underway.program.sha256.clone(),
        problem: e.to_string(),
    };
    let told = tokio::task::spawn_blocking(move || agent.call(call));
    if !matches!(told.await, Ok(Ok(_))) {
        tracing::info!("the server could not be told");
    }
}

async fn change(agent: &Arc<Agent>, underway: &Underway, tell: &watch::Sender<Stage>) -> AgentResult<()> {
    let place = agent.own.path()?;
    // Always the same, so that a crash leaves no more than one; another agent of this program has another.
    let mark = hex::encode(&Sha256::digest(agent.data_dir.as_os_str().as_encoded_bytes())[..4]);
    let new = Unfinished(beside(&place, &format!(".new-{mark}")));
    let (a, program) = (agent.clone(), underway.program.clone());
    let fetched = tokio::task::spawn_blocking(move || {
        // Another agent may have changed it, or a person.
        let there = File::open(a.own.path()?).and_then(|mut f| hash(&mut f));
        if there.is_ok_and(|sum| sum == program.sha256) {
            return Ok(None);
        }
        fetch(&a, &program, &new.0).and_then(|()| try_out(&a.data_dir, &new.0))?;
        AgentResult::Ok(Some(new))
    });
    let fetched = fetched
        .await
        .map_err(|_| AgentError::Protocol("fetching the program broke off".into()))??;
    tell.send_replace(Stage::Ready);
    wait_for_jobs(agent, underway).await?;
    if let Some(new) = fetched {
        let (a, program, place) = (agent.clone(), underway.program.clone(), place.clone());
        let replaced = tokio::task::spawn_blocking(move || replace(&a, &program, &place, &new.0));
        replaced
            .await
            .map_err(|_| AgentError::Protocol("replacing the program broke off".into()))??;
    }
    tracing::info!(program = %place.display(), "the program was replaced, starting it");
    *agent.farewell.lock() = Some(Farewell::Restart);
    agent.stopping.cancel();
    Ok(())
}

/// A file that is removed unless it gets another name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Fetches a program into a new file.
fn fetch(agent: &Agent, program: &Program, target: &Path) -> AgentResult<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match fetch_once(agent, program, target) {
            Err(
                e @ (AgentError::Offline
                | AgentError::Server {
                    status: 429 | 503, ..
                }),
            ) if tries < TRIES => {
                tracing::info!(error = %e, "the program could not be fetched, trying again");
                std::thread::sleep(PAUSE);
            }
            ended => return ended,
        }
    }
}

fn fetch_once(agent: &Agent, program: &Program, target: &Path) -> AgentResult<()> {
    let settings = agent.settings();
    let http: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(encke_storage::tls())
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(FETCH_TIME))
        .build()
        .into();
    let url = format!("{}{PROGRAM_PATH}", settings.server);
    let form = [
        ("Username", settings.username.as_str()),
        ("LoginKey", settings.login_key()),
        ("DeviceID", settings.device_id.as_str()),
    ];
    let response = http.post(&url).send_form(form).map_err(|_| AgentError::Offline)?;
    let body = response.into_body();
    if body.mime_type() != Some("application/octet-stream") {
        let text = body
            .into_with_config()
            .limit(64 * 1024)
            .read_to_string()
            .unwrap_or_default();
        let told: encke_api::types::CometAPIResponseMessage = serde_json::from_str(&text).unwrap_or_default();
        return Err(match u16::try_from(told.status) {
            Ok(status @ 400..) => AgentError::Server {
                status,
                message: told.message,
            },
            _ => AgentError::Protocol(format!("{url} does not answer a program")),
        });
    }
    let mut reader = body
        .into_with_config()
        .limit(program.size.saturating_add(1))
        .reader();
    // One that was left behind may be somebody else's.
    let _ = fs::remove_file(target);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(target);
    let mut file = file.map_err(file_error(target))?;
    let mut hasher = Sha256::new();
    let (mut size, mut block) = (0u64, vec![0; 1 << 20]);
    loop {
        if agent.stopping.is_cancelled() {
            return Err(AgentError::Invalid("the agent stops".into()));
        }
        let n = match reader.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => {
                tracing::info!(error = %e, "the program broke off");
                return Err(AgentError::Offline);
            }
        };
        size += n as u64;
        hasher.update(&block[..n]);
        file.write_all(&block[..n]).map_err(file_error(target))?;
    }
    let found = hex::encode(hasher.finalize());
    if size != program.size || found != program.sha256 {
        return Err(AgentError::Invalid(format!(
            "what came is damaged: {size} bytes of SHA-256 {found} instead of {} of {}; the present program stays",
            program.size, program.sha256
        )));
    }
    file.sync_all().map_err(file_error(target))
}

/// Has a program read this device's settings: one that can not even do that never gets the place of another.
fn try_out(data_dir: &Path, program: &Path) -> AgentResult<()> {
    let fails = |why: String| AgentError::Invalid(format!("the new program does not run here: {why}"));
    let mut trial = Command::new(program)
        .args(["agent", "--data-dir"])
        .arg(data_dir)
        .arg("status")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fails(e.to_string()))?;
    let until = Instant::now() + TRIAL_TIME;
    let status = loop {
        match trial.try_wait().map_err(|e| fails(e.to_string()))? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                let _ = trial.kill();
                let _ = trial.wait();
                return Err(fails(format!(
                    "it took more than {} seconds",
                    TRIAL_TIME.as_secs()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut told = String::new();
    if let Some(stderr) = trial.stderr.take() {
        let _ = stderr.take(1000).read_to_string(&mut told);
    }
    Err(fails(format!("{status} {}", told.trim())))
}

/// Returns when no job runs, with the door closed to new ones.
async fn wait_for_jobs(agent: &Arc<Agent>, underway: &Underway) -> AgentResult<()> {
    let mut told = false;
    loop {
        if agent.stopping.is_cancelled() {
            return Err(AgentError::Invalid("the agent stops".into()));
        }
        if underway.interrupt.load(Ordering::SeqCst) {
            jobs::stop_all(agent).await;
        }
        if agent.jobs.lock().is_empty() {
            // The scheduler starts nothing from now on; what it has begun to start shows within a moment.
            agent.closing.store(true, Ordering::SeqCst);
            sleep(SETTLE).await;
            if agent.jobs.lock().close() {
                return Ok(());
            }
            agent.closing.store(false, Ordering::SeqCst);
            agent.profile_changed.notify_one();
        } else if !told {
            told = true;
            tracing::info!("the program is changed when the jobs that run have ended");
        }
        sleep(LOOK).await;
    }
}

/// Puts the new program in the place of the present one, which stays beside it.
fn replace(agent: &Agent, program: &Program, place: &Path, new: &Path) -> AgentResult<()> {
    if own_path().as_deref() != Some(place) {
        return Err(AgentError::Invalid(
            "the program's file was replaced meanwhile; restart the agent first".into(),
        ));
    }
    let old = beside(place, ".old");
    let _ = fs::remove_file(&old);
    // A name more for the same file; a copy where the file system knows no such thing.
    fs::hard_link(place, &old)
        .or_else(|_| fs::copy(place, &old).and_then(|_| File::open(&old)?.sync_all()))
        .map_err(file_error(&old))?;
    let note = Note {
        program: place.to_path_buf(),
        old,
        from: agent.own.sha256.clone(),
        to: program.sha256.clone(),
        starts: 0,
        problem: String::new(),
    };
    let replaced = note.save(&agent.data_dir).and_then(|()| {
        // Whoever could run the old one can run the new one.
        fs::metadata(place)
            .and_then(|m| fs::set_permissions(new, m.permissions()))
            .and_then(|()| fs::rename(new, place))
            .and_then(|()| sync_folder(place))
            .map_err(file_error(place))
    });
    if replaced.is_err() {
        note.forget(&agent.data_dir);
    }
    replaced
}

/// Puts the old program back, if the new one has not got connected. Answers where it lies.
///
/// # Errors
/// The file can not be moved, or what happened can not be written down.
fn put_back_noted(data_dir: &Path, mut note: Note, problem: &str) -> AgentResult<PathBuf> {
    tracing::error!(problem, "the old program is put back");
    note.problem = problem.into();
    note.save(data_dir)?;
    fs::rename(&note.old, &note.program)
        .and_then(|()| sync_folder(&note.program))
        .map_err(file_error(&note.program))?;
    Ok(note.program)
}

/// Puts the old program back after the new one could not be started at all. Answers where it lies; nothing if there is no
/// old one.
///
/// # Errors
/// The file can not be moved, or what happened can not be written down.
pub fn put_back(data_dir: &Path, problem: &str) -> AgentResult<Option<PathBuf>> {
    let note = Note::load(data_dir).filter(|n| n.problem.is_empty());
    note.map(|n| put_back_noted(data_dir, n, problem)).transpose()
}

/// What a start has to do about an update.
pub(crate) enum Begin {
    /// Nothing.
    Plain,
    /// Get connected in time, to confirm the new program.
    Confirm,
    /// Start the old program, which was put back to here.
    PutBack(PathBuf),
}

/// Looks, when the agent starts, what became of an update.
///
/// # Errors
/// What has to be written down can not be.
pub(crate) fn at_start(data_dir: &Path, own: &Own) -> AgentResult<Begin> {
    let Some(mut note) = Note::load(data_dir) else {
        return Ok(Begin::Plain);
    };
    if own.sha256 == note.to && note.problem.is_empty() {
        if note.starts >= MAX_STARTS && note.old.exists() {
            let problem = format!("the new program was started {MAX_STARTS} times and did not get connected");
            return put_back_noted(data_dir, note, &problem).map(Begin::PutBack);
        }
        note.starts += 1;
        note.save(data_dir)?;
        return Ok(Begin::Confirm);
    }
    if own.sha256 != note.from {
        // Somebody else changed the program meanwhile.
        note.forget(data_dir);
    } else if note.problem.is_empty() {
        note.problem = "the update broke off before the program was replaced".into();
        let _ = fs::remove_file(&note.old);
        note.save(data_dir)?;
    }
    Ok(Begin::Plain)
}

/// Puts the old program back when the new one has not got connected in time.
pub(crate) async fn confirm_in_time(agent: Arc<Agent>) {
    sleep(CONFIRM_TIME).await;
    while Note::load(&agent.data_dir).is_some_and(|n| n.to == agent.own.sha256 && n.problem.is_empty()) {
        if agent.jobs.lock().is_empty() {
            let minutes = CONFIRM_TIME.as_secs() / 60;
            let problem = format!("the new program did not get connected within {minutes} minutes");
            match put_back(&agent.data_dir, &problem) {
                Ok(_) => {
                    *agent.farewell.lock() = Some(Farewell::Restart);
                    agent.stopping.cancel();
                }
                Err(e) => tracing::error!(error = %e, "the old program could not be put back"),
            }
            return;
        }
        sleep(PAUSE).await;
    }
}

/// The agent got connected: the new program stays, or the server hears why the old one is back.
pub(crate) fn connected(agent: &Arc<Agent>) {
    let Some(note) = Note::load(&agent.data_dir) else {
        return;
    };
    if note.problem.is_empty() {
        if note.to == agent.own.sha256 {
            tracing::info!("the new program is connected and stays");
            note.forget(&agent.data_dir);
        }
        return;
    }
    let agent = agent.clone();
    tokio::task::spawn_blocking(move || {
        let call = Call::UpdateFailed {
            program: note.to.clone(),
            problem: note.problem.clone(),
        };
        if agent.call(call).is_ok() {
            note.forget(&agent.data_dir);
        }
    });
}
