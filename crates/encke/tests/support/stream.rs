//! A WebSocket client of the tests' own (RFC 6455), so that nothing is taken on trust, and the event stream over it.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use super::Server;
use base64::Engine as _;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connection.
pub struct Client(pub TcpStream);

impl Client {
    /// Opens a WebSocket.
    pub fn connect(server: &Server, path: &str) -> Self {
        let host = server.url.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let key = base64::engine::general_purpose::STANDARD.encode([7u8; 16]);
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        Self(socket)
    }

    /// Sends a text frame.
    pub fn send(&mut self, text: &str) {
        assert!(text.len() < 126);
        let mask = [1u8, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        self.0.write_all(&frame).unwrap();
    }

    /// The next text frame; nothing once the server has closed.
    pub fn receive(&mut self) -> Option<String> {
        loop {
            let mut head = [0u8; 2];
            self.0.read_exact(&mut head).ok()?;
            let length = match head[1] & 0x7f {
                126 => {
                    let mut b = [0; 2];
                    self.0.read_exact(&mut b).ok()?;
                    u64::from(u16::from_be_bytes(b))
                }
                127 => {
                    let mut b = [0; 8];
                    self.0.read_exact(&mut b).ok()?;
                    u64::from_be_bytes(b)
                }
                n => u64::from(n),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).ok()?;
            match head[0] & 0x0f {
                1 => return Some(String::from_utf8(payload).unwrap()),
                8 => return None,
                _ => {}
            }
        }
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        serde_json::from_str(&self.receive().expect("the stream ended")).unwrap()
    }

    /// The next event of a kind.
    pub fn event_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event();
            if event["TypeString"] == kind {
                return event;
            }
        }
    }
}

/// The event stream, signed in as the administrator.
pub fn signed_in(server: &Server, path: &str) -> Client {
    let mut client = Client::connect(server, path);
    for field in ["admin", "Password", "admin", "", ""] {
        client.send(field);
    }
    assert_eq!(client.receive().as_deref(), Some("200 OK"));
    client
}
