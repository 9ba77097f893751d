//! The server's log, a file a day (UTC) in the data folder. A day is named by the Unix second it begins at.

use crate::app::App;
use crate::auth::Admin;
use crate::table::{Binary, Call, Numbers, PlainStream, Route};
use axum::body::Body;
use bytes::Bytes;
use encke_api::form::{Json, NoParams};
use encke_api::{ApiError, ApiResult, params};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Folder of the log files within the data folder. The program writes `encke.<year>-<month>-<day>.log` into it.
pub const LOG_FOLDER: &str = "logs";
const PREFIX: &str = "encke.";
const SUFFIX: &str = ".log";
/// Bytes that are read at once.
const BLOCK: usize = 64 * 1024;

params! {
    /// Parameters of `AdminMetaReadLogs`.
    struct ReadOne {
        /// A day, as the list tells it.
        Log: i64
    }
}

params! {
    /// Parameters of `AdminMetaReadSelectLogs`.
    struct ReadSome {
        /// Days, as the list tells them.
        Logs: Json<Vec<i64>>
    }
}

/// The log files with their days, oldest first.
pub(crate) fn files(data_dir: &Path) -> Vec<(i64, PathBuf)> {
    let entries = std::fs::read_dir(data_dir.join(LOG_FOLDER))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<(i64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let date: Date = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()?;
            let start = date.to_zoned(TimeZone::UTC).ok()?;
            Some((start.timestamp().as_second(), entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// Removes the files of days that ended before a time (Unix seconds).
pub(crate) fn prune(data_dir: &Path, before: i64) {
    for (day, path) in files(data_dir) {
        if day + 86_400 < before {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn list(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Numbers> {
    Ok(Numbers(
        files(&app.data_dir).into_iter().map(|(day, _)| day).collect(),
    ))
}

/// Hands bytes that a thread for blocking work makes to a body, as fast as the client takes them.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stream(work: impl FnOnce(&mut Pipe) -> io::Result<()> + Send + 'static) -> Body {
    let (send, receive) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe(send);
        if let Err(e) = work(&mut pipe) {
            // The client learns from a body that breaks off.
            let _ = pipe.0.blocking_send(Err(e));
        }
    });
    Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receive))
}

fn copy(path: &Path, to: &mut impl Write) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(()),
            n => to.write_all(&block[..n])?,
        }
    }
}

fn read(app: &App, days: &[i64]) -> ApiResult<PlainStream> {
    let known = files(&app.data_dir);
    let mut paths = Vec::new();
    for day in days {
        let found = known.iter().find(|(d, _)| d == day);
        let (_, path) = found.ok_or_else(|| ApiError::not_found(format!("There is no log of day {day}")))?;
        paths.push(path.clone());
    }
    Ok(PlainStream(stream(move |pipe| {
        paths.iter().try_for_each(|path| copy(path, pipe))
    })))
}

async fn read_one(app: Arc<App>, _: Admin, call: Call<ReadOne>) -> ApiResult<PlainStream> {
    read(&app, &[call.params.Log])
}

async fn read_some(app: Arc<App>, _: Admin, call: Call<ReadSome>) -> ApiResult<PlainStream> {
    read(&app, &call.params.Logs.0)
}

async fn read_all(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Binary> {
    let all = files(&app.data_dir);
    let body = stream(move |pipe| {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .large_file(true);
        let mut zip = ZipWriter::new_stream(io::BufWriter::with_capacity(BLOCK, pipe));
        for (_, path) in all {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            zip.start_file(name, options)?;
            copy(&path, &mut zip)?;
        }
        zip.finish()?.into_inner().flush()
    });
    Ok(Binary {
        body,
        media: "application/zip",
    })
}

pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminMetaListAvailableLogDays",
            "/api/v1/admin/meta/list-available-log-days",
            "Answers the days that there is a log of: the Unix second each begins at (UTC).",
            list,
        ),
        Route::new(
            "AdminMetaReadLogs",
            "/api/v1/admin/meta/read-logs",
            "Answers the server's log of one day, as text.",
            read_one,
        ),
        Route::new(
            "AdminMetaReadSelectLogs",
            "/api/v1/admin/meta/read-select-logs",
            "Answers the server's logs of some days, one after the other, as text.",
            read_some,
        ),
        Route::new(
            "AdminMetaReadAllLogs",
            "/api/v1/admin/meta/read-all-logs",
            "Answers all the server's logs as a ZIP file.",
            read_all,
        ),
    ];
    all.into_iter()
        .map(|r| r.top_level().denied_if(|p| p.deny_view_server_info))
        .collect()
}
