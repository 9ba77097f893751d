//! Where a request came from.

use axum::http::{HeaderMap, header};
use encke_api::messages::Language;
use std::net::IpAddr;

/// How a listener is reached: `http` or `https`.
#[derive(Clone, Copy, Debug)]
pub struct Scheme(pub &'static str);

/// Address, host and path of a request.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `http` or `https`, as the client sees this server.
    pub scheme: &'static str,
    /// The client's address; behind a trusted proxy the one it reports.
    pub ip: IpAddr,
    /// Host name asked for, without port, in lower case. Chooses the organization (reference, section 9).
    pub host: String,
    /// Host with port, as the client sees this server.
    pub authority: String,
    /// Path of the request.
    pub path: String,
    /// The language that the caller reads.
    pub language: Language,
}

impl Origin {
    /// Reads it from a request's parts.
    #[must_use]
    pub fn new(peer: IpAddr, headers: &HeaderMap, path: &str, scheme: Scheme, trust_forwarded: bool) -> Self {
        let header = |name: header::HeaderName| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let forwarded = headers
            .get("x-forwarded-for")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.split(',').next())
            .and_then(|v| v.trim().parse().ok());
        let outside = match headers.get("x-forwarded-proto").and_then(|v| v.to_str().ok()) {
            Some("https") => Some("https"),
            Some("http") => Some("http"),
            _ => None,
        };
        let authority = header(header::HOST).to_ascii_lowercase();
        Self {
            scheme: outside.filter(|_| trust_forwarded).unwrap_or(scheme.0),
            ip: forwarded.filter(|_| trust_forwarded).unwrap_or(peer),
            host: without_port(&authority).to_string(),
            authority,
            path: path.to_string(),
            language: Language::accepted(header(header::ACCEPT_LANGUAGE)),
        }
    }

    /// Scheme and host as the client sees them, such as `https://backup.example.com`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}
