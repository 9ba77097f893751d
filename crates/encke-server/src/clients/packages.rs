//! The forms in which the client is handed out: a shell script that holds it, and a Debian package.

use super::pieces::{Archive, Piece, ar_header};
use super::program::Facts;
use encke_api::{ApiError, ApiResult};
use std::io;

/// The script that installs, with `@NAMES@` for what differs.
const INSTALLER: &str = include_str!("installer.sh");
const POSTINST: &str = include_str!("postinst.sh");
const PRERM: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = remove ] && [ -z \"${DPKG_ROOT:-}\" ]; then\n  /usr/bin/encke agent uninstall || :\nfi\n";
const POSTRM: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = purge ]; then\n  rm -rf \"${DPKG_ROOT:-}/var/lib/encke-agent\"\nfi\n";

/// What a client is told about where it comes from.
pub(super) struct Build {
    /// The server's address, without a slash at the end.
    pub server: String,
    /// Name that people see.
    pub product: String,
    /// Who hands it out.
    pub company: String,
}

/// A word of a shell script, whatever it holds.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn filled(template: &str, build: &Build, facts: &Facts, payload: &str) -> String {
    let program = &facts.program;
    template
        .replace("@SERVER@", &quoted(&build.server))
        .replace("@PRODUCT@", &quoted(&build.product))
        .replace("@PLATFORM@", &quoted(&program.platform))
        .replace("@SHA256@", &quoted(&program.sha256))
        .replace("@PAYLOAD@", payload)
}

/// The script that fetches the program.
pub(super) fn fetching(build: &Build, facts: &Facts) -> String {
    filled(INSTALLER, build, facts, "")
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    tracing::error!(error = %e, "a client could not be packed");
    ApiError::internal()
}

/// The script with the program behind it.
///
/// # Errors
/// 500 where it can not be packed.
pub(super) fn self_extracting(build: &Build, facts: &Facts, program: Piece) -> ApiResult<Vec<Piece>> {
    let lines = filled(INSTALLER, build, facts, "").lines().count();
    let script = filled(INSTALLER, build, facts, &(lines + 1).to_string());
    let end = Archive::new(facts.modified).end().map_err(internal)?;
    Ok(vec![Piece::Bytes(script.into_bytes()), program, end])
}

/// Debian's name of an architecture.
fn architecture(facts: &Facts) -> &str {
    match facts.program.platform.rsplit('/').next().unwrap_or_default() {
        "386" => "i386",
        other => other,
    }
}

/// A package's version: that of this program, the time it was built, and its hash, so that later ones are newer.
fn version(facts: &Facts) -> String {
    let built = jiff::Timestamp::from_second(facts.modified).unwrap_or_default();
    format!(
        "{}+{}.{}",
        env!("CARGO_PKG_VERSION"),
        built.strftime("%Y%m%d%H%M%S"),
        &facts.program.sha256[..8]
    )
}

/// Name of the Debian package's file.
pub(super) fn debian_name(facts: &Facts) -> String {
    format!("encke_{}_{}.deb", version(facts), architecture(facts))
}

/// The Debian package (deb(5)): an ar archive of two tar archives.
///
/// # Errors
/// 500 where it can not be packed.
pub(super) fn debian(build: &Build, facts: &Facts, program: Piece) -> ApiResult<Vec<Piece>> {
    let mut control = Archive::new(facts.modified);
    let libc = facts.libc.as_ref();
    let depends = libc.map_or_else(String::new, |v| format!("Depends: libc6 (>= {v}), libgcc-s1\n"));
    let text = format!(
        "Package: encke\nVersion: {}\nArchitecture: {}\nMaintainer: {} <root@localhost>\nInstalled-Size: {}\n\
         {depends}Section: admin\nPriority: optional\nDescription: {} backup client\n \
         Backs this machine up to {}\n",
        version(facts),
        architecture(facts),
        build.company,
        facts.program.size.div_ceil(1024),
        build.product,
        build.server,
    );
    let script = filled(POSTINST, build, facts, "");
    let mut data = Archive::new(facts.modified);
    let mut put = || -> io::Result<()> {
        control.file("control", 0o644, text.as_bytes())?;
        control.file("postinst", 0o755, script.as_bytes())?;
        control.file("prerm", 0o755, PRERM.as_bytes())?;
        control.file("postrm", 0o755, POSTRM.as_bytes())?;
        for folder in ["usr/", "usr/share/", "usr/share/encke/", "usr/bin/"] {
            data.folder(folder)?;
        }
        data.file(
            "usr/share/encke/server",
            0o644,
            format!("{}\n", build.server).as_bytes(),
        )
    };
    put().map_err(internal)?;
    let control = control.end().map_err(internal)?;
    let end = Archive::new(facts.modified).end().map_err(internal)?;
    let data = [data.member().map_err(internal)?, program, end];
    let mut out = vec![Piece::Bytes(b"!<arch>\n".to_vec())];
    let mut member = |name: &str, pieces: Vec<Piece>| {
        let length = pieces.iter().map(Piece::length).sum();
        out.push(Piece::Bytes(ar_header(name, length, facts.modified)));
        out.extend(pieces);
        // Members begin at even places.
        if length % 2 == 1 {
            out.push(Piece::Bytes(b"\n".to_vec()));
        }
    };
    member("debian-binary", vec![Piece::Bytes(b"2.0\n".to_vec())]);
    member("control.tar.gz", vec![control]);
    member("data.tar.gz", data.into());
    Ok(out)
}
