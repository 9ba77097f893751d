//! Which mail server an organization sends with, and as whom: its own, or the top level's where it says nothing.

use super::is_address;
use crate::app::App;
use crate::secrets::{self, Confidential};
use encke_api::constants::{
    EMAIL_DELIVERY_BUILTIN, EMAIL_DELIVERY_DISABLED, EMAIL_DELIVERY_INHERIT, EMAIL_DELIVERY_SMTP,
    EMAIL_DELIVERY_SMTP_SSL,
};
use encke_api::types::{EmailOptions, ServerConfigOptions};
use encke_api::{ApiError, ApiResult};

/// Why mails are not delivered without a mail server of one's own.
const NO_MX: &str = "mails are sent through a mail server (Mode smtp or smtp-ssl); delivery straight to the recipients' servers is not available, since most networks and recipients refuse it";

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Security {
    /// From its beginning.
    Tls,
    /// By STARTTLS before anything else is said.
    StartTls,
    /// By STARTTLS if the server offers it.
    IfOffered,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MailServer {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub any_certificate: bool,
    pub login: Option<(String, String)>,
    pub hello: String,
}

/// A mail server and the sender.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub server: MailServer,
    pub from_name: String,
    pub from_address: String,
}

/// What somebody is told who wants to send without a mail server.
pub(super) fn switched_off() -> ApiError {
    ApiError::bad_request("E-mail is switched off; choose a mail server in the e-mail settings first")
}

impl Confidential for EmailOptions {
    const NAME: &'static str = "mail server";
    const PLACE: &'static str = "email";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        visit("SMTPPassword", &mut self.smtp_password);
    }

    fn addresses(&self) -> Vec<&str> {
        vec![&self.smtp_host, &self.smtp_username]
    }
}

fn own<'a>(config: &'a ServerConfigOptions, organization: &str) -> Option<&'a EmailOptions> {
    match organization {
        "" => Some(&config.email),
        id => config.organizations.get(id).map(|o| &o.email),
    }
}

/// The options whose mail server an organization uses, and whose they are; nothing where e-mail is switched off.
pub(super) fn source<'a>(
    config: &'a ServerConfigOptions,
    organization: &str,
) -> Option<(String, &'a EmailOptions)> {
    let own = own(config, organization)?;
    let (owner, options) = if own.mode == EMAIL_DELIVERY_INHERIT && !organization.is_empty() {
        ("", &config.email)
    } else {
        (organization, own)
    };
    let off = [EMAIL_DELIVERY_INHERIT, EMAIL_DELIVERY_DISABLED];
    (!off.contains(&options.mode.as_str())).then(|| (owner.to_string(), options))
}

/// The mail server and sender of an organization.
///
/// # Errors
/// 400 where e-mail is switched off or the settings do not do; 500 if the password can not be opened.
pub(super) fn of(app: &App, organization: &str) -> ApiResult<Settings> {
    let config = app.config();
    let (owner, options) = source(&config, organization).ok_or_else(switched_off)?;
    let mut settings = read(app, &owner, options)?;
    // An organization may have a sender of its own with the top level's server.
    if let Some(own) = own(&config, organization) {
        if is_address(&own.from_email) {
            settings.from_address.clone_from(&own.from_email);
        }
        if !own.from_name.is_empty() {
            settings.from_name.clone_from(&own.from_name);
        }
    }
    Ok(settings)
}

/// The sender as people see it, also where nothing can be sent.
pub(super) fn sender(config: &ServerConfigOptions, organization: &str) -> String {
    let chosen = |pick: fn(&EmailOptions) -> &String| {
        let own = own(config, organization).map(pick).filter(|v| !v.is_empty());
        own.unwrap_or_else(|| pick(&config.email)).clone()
    };
    let (name, address) = (chosen(|o| &o.from_name), chosen(|o| &o.from_email));
    if name.is_empty() {
        address
    } else {
        format!("{name} <{address}>")
    }
}

/// The settings of options as they are kept for an organization.
///
/// # Errors
/// As [`of`].
pub(super) fn read(app: &App, owner: &str, options: &EmailOptions) -> ApiResult<Settings> {
    let (security, port) = match options.mode.as_str() {
        EMAIL_DELIVERY_SMTP_SSL => (Security::Tls, 465),
        EMAIL_DELIVERY_SMTP if options.smtp_allow_unencrypted => (Security::IfOffered, 587),
        EMAIL_DELIVERY_SMTP => (Security::StartTls, 587),
        EMAIL_DELIVERY_BUILTIN => return Err(ApiError::unsupported(NO_MX)),
        _ => return Err(switched_off()),
    };
    check(options)?;
    let password = secrets::opened(&app.server_key, owner, options)?.smtp_password;
    Ok(Settings {
        server: MailServer {
            host: options.smtp_host.trim().to_string(),
            port: match options.smtp_port {
                0 => port,
                n => u16::try_from(n).map_err(|_| ApiError::bad_request("SMTPPort is 1 to 65535"))?,
            },
            security,
            any_certificate: options.smtp_allow_invalid_certificate,
            login: (!options.smtp_username.is_empty()).then(|| (options.smtp_username.clone(), password)),
            hello: options.smtp_custom_ehlo.trim().to_string(),
        },
        from_name: options.from_name.clone(),
        from_address: options.from_email.trim().to_string(),
    })
}

fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain)
}

/// Whether options can be kept.
///
/// # Errors
/// 400 naming what is wrong; 501 for a way of delivery that this server does not have.
pub(crate) fn check(options: &EmailOptions) -> ApiResult<()> {
    let bad = |message: &str| Err(ApiError::bad_request(message));
    if !options.from_email.is_empty() && !is_address(options.from_email.trim()) {
        return bad("FromEmail is not an e-mail address");
    }
    if options.from_name.chars().any(char::is_control) || options.from_name.len() > 255 {
        return bad("FromName has at most 255 bytes and no line breaks");
    }
    match options.mode.as_str() {
        EMAIL_DELIVERY_INHERIT | EMAIL_DELIVERY_DISABLED => return Ok(()),
        EMAIL_DELIVERY_BUILTIN => return Err(ApiError::unsupported(NO_MX)),
        EMAIL_DELIVERY_SMTP | EMAIL_DELIVERY_SMTP_SSL => {}
        other => {
            return Err(ApiError::bad_request(format!(
                "The e-mail mode '{other}' is unknown"
            )));
        }
    }
    if options.from_email.is_empty() {
        return bad("FromEmail is missing: e-mails need a sender");
    }
    if !is_host(options.smtp_host.trim()) {
        return bad("SMTPHost is not the name of a mail server");
    }
    if !(0..=65535).contains(&options.smtp_port) {
        return bad("SMTPPort is 1 to 65535");
    }
    if !options.smtp_custom_ehlo.is_empty() && !is_host(options.smtp_custom_ehlo.trim()) {
        return bad("SMTPCustomEhlo is not a host name");
    }
    Ok(())
}

/// Makes options that somebody wrote ready to be kept in place of `present`. The password stays only for the same server,
/// port and user.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    app: &App,
    organization: &str,
    present: Option<&EmailOptions>,
    wanted: &mut EmailOptions,
) -> ApiResult<()> {
    let same = present.filter(|p| p.smtp_port == wanted.smtp_port);
    secrets::adopt(&app.server_key, organization, same, wanted)
}
