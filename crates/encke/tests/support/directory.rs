//! A real directory (OpenLDAP's slapd) for a test: own ports, own folder, own authority.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use super::device::until;
use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Below this everything lies.
pub const BASE: &str = "dc=example,dc=com";
/// Who may search.
pub const SEARCHER: (&str, &str) = ("cn=searcher,dc=example,dc=com", "search-secret");

/// A running directory.
pub struct Directory {
    /// Port in clear and with StartTLS.
    pub port: u16,
    /// Port with TLS from the start.
    pub tls_port: u16,
    /// Certificate of the authority that certifies `localhost`.
    pub authority: PathBuf,
    child: Child,
    _folder: TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn run(program: &str, folder: &TempDir, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .current_dir(folder.path())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
}

impl Directory {
    /// A directory with these people: name, password, and what they are (`employeeType`).
    pub fn start(people: &[(&str, &str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        const KEY: &str = "-newkey rsa:2048 -nodes";
        run(
            "openssl",
            &folder,
            &format!("req -x509 {KEY} -subj /CN=directory-authority -days 30 -keyout ca.key -out ca.pem"),
        );
        fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        run(
            "openssl",
            &folder,
            &format!("req {KEY} -subj /CN=localhost -keyout key.pem -out request"),
        );
        run(
            "openssl",
            &folder,
            "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out cert.pem",
        );
        fs::create_dir(folder.path().join("data")).unwrap();
        let config = format!(
            "include /etc/ldap/schema/core.schema\n\
             include /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
             pidfile {}\n\
             database mdb\nsuffix \"{BASE}\"\nrootdn \"cn=root,{BASE}\"\ndirectory {}\nmaxsize 16777216\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by * read\n",
            at("ca.pem"),
            at("cert.pem"),
            at("key.pem"),
            at("pid"),
            at("data"),
        );
        fs::write(folder.path().join("slapd.conf"), config).unwrap();
        let mut entries = format!(
            "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\n\n\
             dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: {}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: searcher\nuserPassword: {}\n\n",
            SEARCHER.0, SEARCHER.1
        );
        for (name, password, kind) in people {
            write!(
                entries,
                "dn: cn=Entry of {name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\nsn: {name}\n\
                 mail: {name}@example.com\nuserPassword: {password}\nemployeeType: {kind}\n\n"
            )
            .unwrap();
        }
        fs::write(folder.path().join("entries.ldif"), entries).unwrap();
        run("slapadd", &folder, "-f slapd.conf -l entries.ldif");
        let (port, tls_port) = (free_port(), free_port());
        let child = Command::new("slapd")
            .args(["-d", "0", "-f", &at("slapd.conf"), "-h"])
            .arg(format!("ldap://localhost:{port}/ ldaps://localhost:{tls_port}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the directory", || {
            TcpStream::connect(("localhost", tls_port)).ok()
        });
        Self {
            port,
            tls_port,
            authority: folder.path().join("ca.pem"),
            child,
            _folder: folder,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
