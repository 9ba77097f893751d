//! `encke vault retention` and `encke vault prune`: which snapshots go, and what that frees.

use super::{bytes, open};
use anyhow::{Context as _, bail};
use encke_repo::retention::{Policy, Range};
use encke_repo::{Cancel, Progress, PruneOptions, Repository, Snapshot};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Which snapshots stay: those that at least one rule keeps, for each machine and set of paths by itself.
#[derive(clap::Args)]
pub struct RetentionArgs {
    /// A rule; may be given several times: `last=5`, `newer=2024-01-31T00:00Z`, `since=1y2m3w4d`, the newest of each
    /// of the last `days=7`, `weeks=4`, `months=12`, `years=3` that have any, the first of each of the last
    /// `first-of-days=7`, `first-of-weeks=4@0` (Sunday), `first-of-months=12@1` (day of the month),
    /// `first-of-years=3@1` (day of the year).
    #[arg(long, required = true, value_parser = range)]
    keep: Vec<Range>,
    /// Time zone that days are cut in, such as `Europe/Berlin`; this machine's if not given.
    #[arg(long)]
    zone: Option<String>,
    /// Only snapshots with this word.
    #[arg(long)]
    tag: Option<String>,
    /// Only tell what would be forgotten.
    #[arg(long)]
    dry_run: bool,
    /// Free afterwards what nothing needs.
    #[arg(long)]
    prune: bool,
}

/// How much to free.
#[derive(clap::Args)]
pub struct PruneArgs {
    /// Unneeded bytes that may stay beside needed ones, in percent of these.
    #[arg(long, default_value_t = 5.0)]
    max_unused: f64,
    /// Bytes that may be copied to free others.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    max_repack: u64,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Reckon by this time instead of now.
    #[arg(long, hide = true)]
    now: Option<Timestamp>,
}

/// Reads a rule.
fn range(text: &str) -> Result<Range, String> {
    let wrong = || format!("'{text}' is not a rule like last=5 or first-of-months=12@1");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (count, at) = value
        .split_once('@')
        .map_or((value, None), |(count, at)| (count, Some(at)));
    let n = || count.parse::<u64>().map_err(|_| wrong());
    let of = |default: u16| at.map_or(Ok(default), |at| at.parse::<u16>().map_err(|_| wrong()));
    let small = |default| of(default).and_then(|v| u8::try_from(v).map_err(|_| wrong()));
    let rule = match name {
        "last" => Range::MostRecent(n()?),
        "newer" => Range::NewerThan(value.parse().map_err(|_| wrong())?),
        "since" => since(value).ok_or_else(wrong)?,
        "days" => Range::LastByDay(n()?),
        "weeks" => Range::LastByWeek(n()?),
        "months" => Range::LastByMonth(n()?),
        "years" => Range::LastByYear(n()?),
        "first-of-days" => Range::FirstOfDays(n()?),
        "first-of-weeks" => Range::FirstOfWeeks {
            weeks: n()?,
            weekday: small(0)?,
        },
        "first-of-months" => Range::FirstOfMonths {
            months: n()?,
            day: small(1)?,
        },
        "first-of-years" => Range::FirstOfYears {
            years: n()?,
            day: of(1)?,
        },
        _ => return Err(wrong()),
    };
    if at.is_some() && !matches!(name, "first-of-weeks" | "first-of-months" | "first-of-years") {
        return Err(wrong());
    }
    Ok(rule)
}

/// Reads a span like `1y2m3w4d`.
fn since(text: &str) -> Option<Range> {
    let mut units = [0; 4];
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = "ymwd".find(rest[digits..].chars().next()?)?;
        units[unit] = rest[..digits].parse().ok()?;
        rest = &rest[digits + 1..];
    }
    let [years, months, weeks, days] = units;
    (!text.is_empty()).then_some(Range::Since {
        days,
        weeks,
        months,
        years,
    })
}

/// Forgets snapshots by rules.
pub fn retention(args: &RetentionArgs, vault: &super::VaultArgs) -> anyhow::Result<()> {
    let now = match &args.zone {
        None => jiff::Zoned::now(),
        Some(zone) => Timestamp::now()
            .in_tz(zone)
            .with_context(|| format!("there is no time zone '{zone}'"))?,
    };
    let repo = open(vault)?;
    let policy = Policy::DeleteExcept(args.keep.clone());
    let mut groups: BTreeMap<(String, Vec<String>), Vec<Snapshot>> = BTreeMap::new();
    for snapshot in repo.snapshots()? {
        if args.tag.as_ref().is_none_or(|tag| snapshot.tags.contains(tag)) {
            let group = (snapshot.hostname.clone(), snapshot.paths.clone());
            groups.entry(group).or_default().push(snapshot);
        }
    }
    let mut gone = Vec::new();
    for ((host, paths), snapshots) in &groups {
        let expired = policy.expired(snapshots, &now)?;
        for s in snapshots {
            let word = if expired.contains(&s.id) { "forget" } else { "keep" };
            if !vault.json {
                println!(
                    "{word:6}  {}  {:.0}  {host}  {}",
                    &s.id.to_string()[..8],
                    s.time,
                    paths.join(", ")
                );
            }
        }
        gone.extend(expired);
    }
    let all: usize = groups.values().map(Vec::len).sum();
    if !args.dry_run {
        repo.delete_snapshots(&gone)?;
    }
    if vault.json {
        println!(
            "{}",
            serde_json::json!({ "forgotten": gone, "kept": all - gone.len() })
        );
    } else {
        let done = if args.dry_run { "would forget" } else { "forgot" };
        println!("{done} {} of {all} snapshots", gone.len());
    }
    if args.prune && !args.dry_run {
        run_prune(&repo, &PruneOptions::default(), vault.json)?;
    }
    Ok(())
}

/// Frees what no snapshot needs.
pub fn prune(args: &PruneArgs, vault: &super::VaultArgs) -> anyhow::Result<()> {
    let options = PruneOptions {
        max_unused_percent: args.max_unused,
        max_repack: args.max_repack,
        dry_run: args.dry_run,
        now: args.now,
    };
    run_prune(&open(vault)?, &options, vault.json)
}

fn run_prune(repo: &Repository, options: &PruneOptions, json: bool) -> anyhow::Result<()> {
    let r = repo.prune(options, &Progress::default(), &Cancel::default())?;
    if json {
        println!("{}", serde_json::to_string(&r)?);
    } else {
        println!("{} snapshots need {}", r.snapshots, bytes(r.used_bytes));
        println!("deleted  {} packs, {}", r.deleted_packs, bytes(r.deleted_bytes));
        println!(
            "marked   {} packs, {}: deleted by a run in 24 hours",
            r.marked_packs,
            bytes(r.marked_bytes)
        );
        println!("waiting  {} packs, {}", r.waiting_packs, bytes(r.waiting_bytes));
        println!("copied   {} packs, {}", r.repacked_packs, bytes(r.repacked_bytes));
        println!(
            "left     {} unneeded beside what is needed",
            bytes(r.unused_bytes)
        );
        if r.recovered_packs > 0 {
            println!(
                "kept     {} packs that were marked and are needed",
                r.recovered_packs
            );
        }
        if let Some(why) = &r.postponed {
            println!("deleting was put off: {why}");
        }
        for error in &r.errors {
            println!("error: {error}");
        }
    }
    if !r.errors.is_empty() {
        bail!("{} packs could not be read", r.errors.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let good = [
            ("last=5", Range::MostRecent(5)),
            ("newer=1970-01-01T00:00Z", Range::NewerThan(Timestamp::UNIX_EPOCH)),
            (
                "since=1y3w",
                Range::Since {
                    days: 0,
                    weeks: 3,
                    months: 0,
                    years: 1,
                },
            ),
            ("weeks=2", Range::LastByWeek(2)),
            (
                "first-of-months=12@31",
                Range::FirstOfMonths { months: 12, day: 31 },
            ),
            ("first-of-weeks=4", Range::FirstOfWeeks { weeks: 4, weekday: 0 }),
            ("first-of-years=3@366", Range::FirstOfYears { years: 3, day: 366 }),
        ];
        for (text, rule) in good {
            assert_eq!(range(text), Ok(rule), "{text}");
        }
        for bad in [
            "",
            "last",
            "last=",
            "last=-1",
            "last=5@1",
            "since=",
            "since=5",
            "since=5x",
            "first-of-weeks=1@300",
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
