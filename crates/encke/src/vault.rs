//! `encke vault`: the repository engine by hand, no server needed.

mod keys;
mod look;
mod priority;
mod repair;
mod upkeep;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use encke_agent::Throttled;
use encke_repo::{
    BackupOptions, Cancel, InitOptions, Node, NodeType, Overwrite, Progress, Repository, RestoreOptions,
};
use indicatif::{ProgressBar, ProgressStyle};
use priority::IoPriority;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Work on a repository directly: back up, restore and verify without a server.
#[derive(clap::Args)]
pub struct VaultArgs {
    /// A folder, or a location as stock restic writes it: `rest:http(s)://user:password@host/path/`,
    /// `s3:http(s)://host/bucket/path`, `sftp:user@host:/folder`, `azure:container:/folder`, `swift:container:/folder` or
    /// `b2:bucket:folder`, with stock restic's variables of the environment.
    #[arg(long, short, env = "ENCKE_VAULT")]
    repo: String,
    /// File whose first line is the repository's password.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Folder for copies of indexes and trees of a repository that is not local.
    #[arg(long)]
    cache_dir: Option<PathBuf>,
    /// Threads of each operation [default: as many as there are cores].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u8).range(0..=64))]
    threads: u8,
    /// Bytes a second that may be read from and written to the repository together.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    limit_speed: i64,
    /// MiB of a pack, from 4 to 128.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(4..=128))]
    pack_size: u8,
    /// Give way to other programs: the lowest priority for the processor, and for the disk the one that follows from it,
    /// unless --io-priority says another.
    #[arg(long)]
    background: bool,
    /// Rank among the programs that use the disk: `idle`, to use it only when no other does, or from 0 (first) to 7
    /// (last). By the system's ionice; disks without a scheduler do not go by it.
    #[arg(long, value_name = "RANK")]
    io_priority: Option<IoPriority>,
    /// Print results as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Clone, Copy, ValueEnum)]
enum OverwriteArg {
    Never,
    Always,
    IfNewer,
    IfDifferent,
}

#[derive(Subcommand)]
enum VaultCommand {
    /// Make a new repository.
    Init,
    /// Back up folders and files.
    Backup {
        /// What to back up.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Word to keep with the snapshot; may be given several times.
        #[arg(long)]
        tag: Vec<String>,
        /// Path to leave out, with everything below it; may be given several times.
        #[arg(long)]
        exclude: Vec<PathBuf>,
        /// Read every file, even those that look unchanged.
        #[arg(long)]
        force: bool,
        /// Stay on the file system of each path.
        #[arg(long)]
        one_file_system: bool,
        /// Compression from 1 (fastest) to 5 (smallest).
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=5))]
        compression: u8,
    },
    /// Back up what a program writes, read from standard input.
    Stdin {
        /// Absolute path of the file in the snapshot.
        #[arg(long, default_value = "/stdin")]
        name: PathBuf,
    },
    /// List snapshots.
    Snapshots,
    /// List a folder of a snapshot.
    Ls {
        /// Id, beginning of an id, or `latest`.
        snapshot: String,
        /// Full path inside the snapshot.
        #[arg(default_value = "/")]
        path: PathBuf,
    },
    /// Restore from a snapshot.
    Restore {
        /// Id, beginning of an id, or `latest`.
        snapshot: String,
        /// Folder that stands for the snapshot's root.
        #[arg(long, required_unless_present = "verify")]
        target: Option<PathBuf>,
        /// Write nothing: only read and verify all of it.
        #[arg(long, conflicts_with = "target")]
        verify: bool,
        /// Full path inside the snapshot; may be given several times.
        #[arg(long)]
        include: Vec<PathBuf>,
        /// What to do with files that exist.
        #[arg(long, value_enum, default_value = "never")]
        overwrite: OverwriteArg,
        /// Put zeros where content is damaged, instead of leaving the file out.
        #[arg(long)]
        skip_unreadable: bool,
    },
    /// Write a file of a snapshot to standard output, or a folder as an archive.
    Dump(look::DumpArgs),
    /// Look for names in all snapshots.
    Find(look::FindArgs),
    /// Show all snapshots as read-only folders, until it is unmounted (`umount` or `fusermount3 -u`).
    Mount {
        /// An empty folder.
        at: PathBuf,
    },
    /// Verify the repository.
    Check(repair::CheckArgs),
    /// Repair what is damaged: the index first, then, after a backup, the snapshots.
    #[command(subcommand)]
    Repair(repair::RepairCommand),
    /// Forget snapshots by id.
    Forget {
        /// Ids or beginnings of ids.
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
    /// Forget snapshots by rules, such as one for each of the last seven days.
    Retention(upkeep::RetentionArgs),
    /// Free what no snapshot needs: mark it, and delete what was marked a day ago or earlier. Backups may go on.
    Prune(upkeep::PruneArgs),
    /// List, add, change and revoke passwords.
    #[command(subcommand)]
    Key(keys::KeyCommand),
}

/// The first line of a file, for passwords.
pub fn first_line(path: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{} can not be read", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

fn password(args: &VaultArgs) -> anyhow::Result<String> {
    if let Some(path) = &args.password_file {
        return first_line(path);
    }
    if let Ok(password) = std::env::var("ENCKE_VAULT_PASSWORD") {
        return Ok(password);
    }
    bail!("give the repository's password with --password-file or in ENCKE_VAULT_PASSWORD")
}

fn open(args: &VaultArgs) -> anyhow::Result<Repository> {
    let backend = Throttled::over(
        encke_storage::open(&args.repo)?,
        args.limit_speed,
        &Cancel::default(),
    );
    let options = InitOptions {
        cache_dir: args.cache_dir.clone(),
        threads: args.threads.into(),
        pack_size: usize::from(args.pack_size) << 20,
        ..Default::default()
    };
    Repository::open(backend, &password(args)?, options).with_context(|| "the repository can not be opened")
}

/// Shows a running operation on a terminal until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Starts to show.
    #[must_use]
    pub fn start(progress: &Arc<Progress>, quiet: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        if quiet || !std::io::stderr().is_terminal() {
            return Self { stop, thread: None };
        }
        let (progress, flag) = (progress.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
            let bar = ProgressBar::new(0).with_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            while !flag.load(Ordering::Relaxed) {
                bar.set_length(Progress::get(&progress.bytes_total));
                bar.set_position(Progress::get(&progress.bytes_done));
                bar.set_message(format!("{} files", Progress::get(&progress.files_done)));
                std::thread::park_timeout(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Runs the command.
pub fn run(args: &VaultArgs) -> anyhow::Result<()> {
    if args.background {
        // Threads that are started from here on inherit it.
        rustix::process::nice(19).context("the priority can not be lowered")?;
    }
    if let Some(priority) = args.io_priority {
        priority.apply()?;
    }
    let progress = Arc::new(Progress::default());
    let cancel = Cancel::default();
    let warn = |path: &Path, message: &str| eprintln!("warning: {}: {message}", path.display());
    match &args.command {
        VaultCommand::Init => {
            let backend = encke_storage::open(&args.repo)?;
            let repo = Repository::init(backend, &password(args)?, InitOptions::default())?;
            println!("made repository {}", &repo.id()[..10]);
        }
        VaultCommand::Backup {
            paths,
            tag,
            exclude,
            force,
            one_file_system,
            compression,
        } => {
            let repo = open(args)?;
            let paths: Vec<PathBuf> = paths
                .iter()
                .map(std::path::absolute)
                .collect::<Result<_, _>>()
                .context("a path can not be used")?;
            let parent = if *force { None } else { latest_of(&repo, &paths)? };
            let left_out: Vec<PathBuf> = exclude
                .iter()
                .map(std::path::absolute)
                .collect::<Result<_, _>>()?;
            let options = BackupOptions {
                paths,
                tags: tag.clone(),
                parent,
                one_file_system: *one_file_system,
                compression: *compression,
                exclude: (!left_out.is_empty()).then(|| {
                    Arc::new(move |p: &Path, _: bool| left_out.iter().any(|x| x == p)) as encke_repo::Exclude
                }),
                ..Default::default()
            };
            let watch = Watch::start(&progress, args.json);
            let summary = repo.backup(&options, &progress, &cancel, &warn)?;
            drop(watch);
            if args.json {
                println!("{}", serde_json::to_string(&summary)?);
            } else {
                println!(
                    "snapshot {}: {} files, {} folders, {}; {} new, {} changed, {} unchanged; stored {}",
                    &summary.snapshot_id[..8],
                    summary.files,
                    summary.dirs,
                    bytes(summary.bytes),
                    summary.files_new,
                    summary.files_changed,
                    summary.files_unmodified,
                    bytes(summary.uploaded),
                );
            }
        }
        VaultCommand::Stdin { name } => {
            let repo = open(args)?;
            let summary = repo.backup_reader(
                name,
                &mut std::io::stdin(),
                &BackupOptions::default(),
                &progress,
                &cancel,
            )?;
            println!("{}", serde_json::to_string(&summary)?);
        }
        VaultCommand::Snapshots => {
            for s in open(args)?.snapshots()? {
                if args.json {
                    println!("{}", serde_json::json!({ "id": s.id, "snapshot": s }));
                } else {
                    let id = s.id.to_string();
                    println!(
                        "{}  {:.0}  {}  {}",
                        &id[..8],
                        s.time,
                        s.hostname,
                        s.paths.join(", ")
                    );
                }
            }
        }
        VaultCommand::Ls { snapshot, path } => {
            let repo = open(args)?;
            repo.load_index()?;
            let snapshot = repo.snapshot(snapshot)?;
            let tree = if path == Path::new("/") {
                repo.tree(&snapshot.tree)?
            } else {
                let node = repo.node_at(&snapshot, path)?;
                repo.tree(
                    &node
                        .subtree
                        .with_context(|| format!("{} is not a folder", path.display()))?,
                )?
            };
            for node in &tree.nodes {
                println!("{}", listing(node));
            }
        }
        VaultCommand::Restore {
            snapshot,
            target,
            verify,
            include,
            overwrite,
            skip_unreadable,
        } => {
            let repo = open(args)?;
            let options = RestoreOptions {
                include: include.clone(),
                target: target.clone().unwrap_or_default(),
                verify_only: *verify,
                overwrite: match overwrite {
                    OverwriteArg::Never => Overwrite::Never,
                    OverwriteArg::Always => Overwrite::Always,
                    OverwriteArg::IfNewer => Overwrite::IfNewer,
                    OverwriteArg::IfDifferent => Overwrite::IfDifferent,
                },
                skip_unreadable: *skip_unreadable,
                ..Default::default()
            };
            let watch = Watch::start(&progress, args.json);
            let summary = repo.restore(&repo.snapshot(snapshot)?, &options, &progress, &cancel, &warn)?;
            drop(watch);
            if args.json {
                println!("{}", serde_json::to_string(&summary)?);
            } else {
                println!(
                    "{} {} files, {} folders, {}",
                    if *verify { "verified" } else { "restored" },
                    summary.files,
                    summary.dirs,
                    bytes(summary.bytes)
                );
            }
            if summary.warnings > 0 {
                bail!("{} entries could not be restored as they were", summary.warnings);
            }
        }
        VaultCommand::Dump(how) => look::dump(how, args)?,
        VaultCommand::Find(how) => look::find(how, args)?,
        VaultCommand::Mount { at } => {
            let mounted = Arc::new(open(args)?).mount(at)?;
            println!("mounted at {}; unmount it to end", at.display());
            mounted.wait()?;
        }
        VaultCommand::Check(how) => repair::check(how, args)?,
        VaultCommand::Repair(command) => repair::repair(command, args)?,
        VaultCommand::Forget { snapshots } => {
            let repo = open(args)?;
            let ids = snapshots
                .iter()
                .map(|s| Ok(repo.snapshot(s)?.id))
                .collect::<anyhow::Result<Vec<_>>>()?;
            repo.delete_snapshots(&ids)?;
            println!("forgot {} snapshots", ids.len());
        }
        VaultCommand::Retention(rules) => upkeep::retention(rules, args)?,
        VaultCommand::Prune(how) => upkeep::prune(how, args)?,
        VaultCommand::Key(command) => keys::run(command, open(args)?, args.json)?,
    }
    Ok(())
}

/// The newest snapshot of this machine with the same paths.
fn latest_of(repo: &Repository, paths: &[PathBuf]) -> anyhow::Result<Option<encke_repo::Snapshot>> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let paths: Vec<String> = paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    Ok(repo
        .snapshots()?
        .into_iter()
        .rfind(|s| s.hostname == host.trim() && s.paths == paths))
}

fn listing(node: &Node) -> String {
    let size = if node.kind == NodeType::File {
        node.size.to_string()
    } else {
        "-".into()
    };
    let name = String::from_utf8_lossy(&node.name);
    format!(
        "{:8} {:04o} {:>12} {:.0} {name}",
        node.kind.word(),
        node.mode,
        size,
        node.mtime
    )
}

/// A size for people.
#[must_use]
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}
