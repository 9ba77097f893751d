//! Makes samples for the fuzzers from a real repository, one file each: `corpus REPOSITORY FOLDER`, with the password in
//! `RESTIC_PASSWORD`. What is longer than a fuzzer's input is left out.

use encke_repo::{InitOptions, Repository, fuzzing};
use std::path::Path;
use std::sync::Arc;

/// Longest sample in bytes.
const MAX: usize = 4096;
/// Samples of one parser.
const EACH: usize = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(repo), Some(folder)) = (args.next(), args.next()) else {
        return Err("usage: corpus REPOSITORY FOLDER".into());
    };
    let password = std::env::var("RESTIC_PASSWORD")?;
    let backend = Arc::new(encke_storage::Local::new(&repo));
    let repo = Repository::open(backend, &password, InitOptions::default())?;
    repo.load_index()?;
    let samples = fuzzing::samples(&repo, &password)?;
    for (parser, _) in fuzzing::PARSERS {
        let folder = Path::new(&folder).join(parser);
        std::fs::create_dir_all(&folder)?;
        let of_parser = samples.iter().filter(|(p, bytes)| *p == parser && bytes.len() <= MAX);
        for (_, bytes) in of_parser.take(EACH) {
            std::fs::write(folder.join(&encke_repo::Id::of(bytes).to_string()[..16]), bytes)?;
        }
    }
    Ok(())
}
