//! `encke vault check` and `encke vault repair`: what is damaged, and what is left without it.

use super::{VaultArgs, Watch, bytes, open};
use anyhow::bail;
use clap::Subcommand;
use encke_repo::{Cancel, CheckOptions, Progress, Sample, repair::shown};
use std::sync::Arc;

/// How thoroughly to look.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// Read every byte.
    #[arg(long)]
    read_data: bool,
    /// Read a part of all packs: a share like `5%`, others each time, or a part like `3/10`.
    #[arg(long, value_parser = sample, conflicts_with = "read_data")]
    read_part: Option<Sample>,
}

/// What to repair.
#[derive(Subcommand)]
pub enum RepairCommand {
    /// Bring the index in line with the packs: make it anew where it is lost, and take out packs that are not there.
    Index {
        /// Read every pack, and copy what is sound in damaged ones.
        #[arg(long)]
        read_data: bool,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write snapshots anew without what is lost, and tell what that is.
    Snapshots {
        /// Forget the snapshots that have lost something.
        #[arg(long)]
        forget: bool,
        /// Only tell what is lost.
        #[arg(long)]
        dry_run: bool,
    },
}

fn sample(text: &str) -> Result<Sample, String> {
    let wrong = || format!("'{text}' is neither a share like 5% nor a part like 3/10");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        let good = percent > 0.0 && percent <= 100.0;
        return good.then_some(Sample::Percent(percent)).ok_or_else(wrong);
    }
    let (n, of) = text.split_once('/').ok_or_else(wrong)?;
    let (n, of) = (n.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
    (1..=of)
        .contains(&n)
        .then_some(Sample::Part(n, of))
        .ok_or_else(wrong)
}

/// Verifies the repository.
pub fn check(how: &CheckArgs, args: &VaultArgs) -> anyhow::Result<()> {
    let progress = Arc::new(Progress::default());
    let options = CheckOptions {
        read_data: how.read_data || how.read_part.is_some(),
        sample: how.read_part,
    };
    let watch = Watch::start(&progress, args.json);
    let report = open(args)?.check(options, &progress, &Cancel::default())?;
    drop(watch);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{} snapshots, {} packs, {} of them read",
            report.snapshots, report.packs, report.read_packs
        );
        if report.unindexed_packs > 0 {
            println!(
                "{} packs are in no index, left by a backup or prune that was cut off",
                report.unindexed_packs
            );
        }
        for error in &report.errors {
            println!("error: {error}");
        }
    }
    if !report.errors.is_empty() {
        bail!(
            "{} errors; `encke vault repair index`, a backup and `encke vault repair snapshots` may help, in this order",
            report.errors.len()
        );
    }
    if !args.json {
        println!("no errors were found");
    }
    Ok(())
}

/// Repairs the repository.
pub fn repair(command: &RepairCommand, args: &VaultArgs) -> anyhow::Result<()> {
    let progress = Arc::new(Progress::default());
    let repo = open(args)?;
    let watch = Watch::start(&progress, args.json);
    match *command {
        RepairCommand::Index { read_data, dry_run } => {
            let report = repo.repair_index(read_data, dry_run, &progress, &Cancel::default())?;
            drop(watch);
            if args.json {
                println!("{}", serde_json::to_string(&report)?);
                return Ok(());
            }
            for line in report.damaged_index_files.iter().chain(&report.damaged_packs) {
                println!("damaged: {line}");
            }
            for id in &report.missing_packs {
                println!("missing: pack {id}");
            }
            println!(
                "{} packs were in no index; {} read; {} blobs are lost",
                report.added_packs,
                bytes(Progress::get(&progress.downloaded)),
                report.lost_blobs
            );
        }
        RepairCommand::Snapshots { forget, dry_run } => {
            let report = repo.repair_snapshots(forget, dry_run, &progress, &Cancel::default())?;
            drop(watch);
            if args.json {
                println!("{}", serde_json::to_string(&report)?);
                return Ok(());
            }
            for line in &report.unreadable {
                println!("unreadable: {line}");
            }
            for s in &report.repaired {
                let id = s.id.to_string();
                match s.new_id {
                    Some(new) => println!("snapshot {}, now {}, lost:", &id[..8], &new.to_string()[..8]),
                    None => println!("snapshot {} lost:", &id[..8]),
                }
                for lost in &s.lost {
                    println!("  {}: {}", shown(&lost.path), lost.what);
                }
            }
            println!("{} snapshots are whole", report.whole);
        }
    }
    Ok(())
}
