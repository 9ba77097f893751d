//! A link that tests cut: a TCP proxy between devices and their server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the link does with bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Carries them.
    Up,
    /// Carries nothing, and nobody is told: a cable that was pulled.
    Silent,
    /// Ends every connection, old and new: a router that went away.
    Down,
    /// Changes a byte behind the first million of what a connection brings back.
    Damaging,
}

/// Where a damaging link changes a byte.
const DAMAGED: u64 = 1_000_000;

/// The proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    link: AtomicU8,
    carried: AtomicU64,
    /// Bytes carried after which the link falls silent; 0 for never.
    silent_at: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn is(&self, link: Link) -> bool {
        self.link.load(SeqCst) == link as u8
    }

    fn is_silent(&self) -> bool {
        let at = self.silent_at.load(SeqCst);
        self.is(Link::Silent) || (at > 0 && self.carried.load(SeqCst) >= at)
    }
}

impl Proxy {
    /// A link to an address, such as `http://127.0.0.1:8060`.
    pub fn to(url: &str) -> Self {
        let target: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        let shared = proxy.shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if shared.is(Link::Down) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let mut open = shared.open.lock().unwrap();
                for (from, to, back) in [(&near, &far, false), (&far, &near, true)] {
                    open.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = shared.clone();
                    std::thread::spawn(move || carry(from, to, back, &shared));
                }
            }
        });
        proxy
    }

    /// The address to use in place of the server's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts or mends the link.
    pub fn set(&self, link: Link) {
        self.shared.silent_at.store(0, SeqCst);
        self.shared.link.store(link as u8, SeqCst);
        if link == Link::Down {
            for connection in self.shared.open.lock().unwrap().drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    /// Lets the link fall silent once it has carried so many bytes more, until it is set anew.
    pub fn silence_after(&self, bytes: u64) {
        self.shared.silent_at.store(self.carried() + bytes, SeqCst);
    }

    /// Whether the link carries nothing just now, and nobody was told.
    pub fn is_silent(&self) -> bool {
        self.shared.is_silent()
    }

    /// Bytes carried so far, both ways.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, back: bool, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while shared.is_silent() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if back && shared.is(Link::Damaging) && (passed..passed + n as u64).contains(&DAMAGED) {
            buffer[usize::try_from(DAMAGED - passed).unwrap()] ^= 1;
        }
        passed += n as u64;
        shared.carried.fetch_add(n as u64, SeqCst);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
