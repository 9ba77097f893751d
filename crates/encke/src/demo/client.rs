//! A caller of the API, as any other program would be.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::time::Duration;

/// Calls as one administrator.
pub struct Client {
    http: ureq::Agent,
    url: String,
}

/// The demonstration's administrator.
pub const ADMIN: &str = "admin";

impl Client {
    /// A client of a server.
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(150)))
            .build();
        Self {
            http: config.into(),
            url: url.to_string(),
        }
    }

    /// Calls an endpoint; an error envelope is an error.
    pub fn call(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut form = vec![("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
        form.extend_from_slice(fields);
        let mut response = self
            .http
            .post(&format!("{}{path}", self.url))
            .send_form(form)
            .with_context(|| path.to_string())?;
        let text = response.body_mut().read_to_string()?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))?;
        let status = value["Status"].as_i64().unwrap_or(200);
        if let Some(message) = value["Message"].as_str()
            && status >= 400
        {
            bail!("{path}: {status} {message}");
        }
        Ok(value)
    }

    /// Fetches a page.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let text = self
            .http
            .get(&format!("{}{path}", self.url))
            .call()?
            .body_mut()
            .read_to_string()?;
        serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))
    }
}
