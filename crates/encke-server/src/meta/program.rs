//! The server's own program for the devices: it is the agent, too. Handed out to anybody where the configuration says
//! so (`SoftwareBuildRole.AllowUnauthenticatedDownloads`), with a script that installs and registers it.

use crate::app::App;
use crate::table::{Binary, Call, Nobody, Route};
use axum::body::Body;
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;

const SCRIPT: &str = include_str!("install.sh");
/// Bytes read from the program's file at once.
const PART: usize = 256 * 1024;

/// The running program, also after its file has been replaced.
async fn open() -> ApiResult<tokio::fs::File> {
    let path = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().map_err(|_| ApiError::internal())?
    };
    tokio::fs::File::open(path)
        .await
        .map_err(|_| ApiError::internal())
}

/// The program's SHA-256 in hexadecimal digits, reckoned once.
async fn digest() -> ApiResult<&'static str> {
    static DIGEST: OnceCell<String> = OnceCell::const_new();
    let reckon = || async {
        let mut file = open().await?;
        let mut hash = Sha256::new();
        let mut part = vec![0; PART];
        loop {
            match file.read(&mut part).await.map_err(|_| ApiError::internal())? {
                0 => break,
                n => hash.update(&part[..n]),
            }
        }
        Ok::<_, ApiError>(hex::encode(hash.finalize()))
    };
    DIGEST.get_or_try_init(reckon).await.map(String::as_str)
}

fn allowed(app: &App) -> ApiResult<()> {
    if app.config().software_build_role.allow_unauthenticated_downloads {
        return Ok(());
    }
    Err(ApiError::new(
        403,
        "This server does not hand out its program; the setting AllowUnauthenticatedDownloads allows it",
    ))
}

async fn program(app: Arc<App>, _: Nobody, _: Call<NoParams>) -> ApiResult<Binary> {
    allowed(&app)?;
    Ok(Binary {
        body: Body::from_stream(ReaderStream::with_capacity(open().await?, PART)),
        media: "application/octet-stream",
    })
}

async fn script(app: Arc<App>, _: Nobody, _: Call<NoParams>) -> ApiResult<Binary> {
    allowed(&app)?;
    // As `uname` names them.
    let system = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "freebsd" => "FreeBSD",
        other => other,
    };
    let text = SCRIPT
        .replace("{system}", system)
        .replace("{machine}", std::env::consts::ARCH)
        .replace("{sha256}", digest().await?);
    Ok(Binary {
        body: Body::from(text),
        media: "text/x-shellscript; charset=utf-8",
    })
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeProgram",
            "/gen/encke",
            "The server's own program, which is the agent of devices of the same system. Only where AllowUnauthenticatedDownloads is on.",
            program,
        )
        .get(),
        Route::new(
            "EnckeInstallScript",
            "/gen/install.sh",
            "A shell script that installs the program of /gen/encke and registers the machine. Only where AllowUnauthenticatedDownloads is on.",
            script,
        )
        .get(),
    ]
}
