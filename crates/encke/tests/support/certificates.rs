//! Certificates for this machine's own names, by an authority of the test's own.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs openssl in a folder.
pub fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "openssl {arguments}: {made:?}");
}

/// Makes `cert.pem` and `key.pem` in place of those before, by the authority `ca.pem`.
pub fn certify(folder: &Path, days: u32) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    if !folder.join("ca.pem").exists() {
        openssl(
            folder,
            &format!("req -x509 {KEY} -subj /CN=authority -days 30 -keyout ca.key -out ca.pem"),
        );
    }
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").unwrap();
    openssl(
        folder,
        &format!("req {KEY} -subj /CN=encke -keyout key.new -out request"),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile names -out cert.new"
        ),
    );
    fs::rename(folder.join("key.new"), folder.join("key.pem")).unwrap();
    fs::rename(folder.join("cert.new"), folder.join("cert.pem")).unwrap();
}

/// Makes a folder with certificates.
pub fn make(folder: &Path) {
    fs::create_dir(folder).unwrap();
    certify(folder, 30);
}
