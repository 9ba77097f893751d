//! One mail to one mail server.

use super::settings::{MailServer, Security, Settings};
use encke_store::MailContent;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Mail servers whose connections are kept.
const MAX_SERVERS: usize = 64;
/// Connections to one mail server.
const CONNECTIONS: u32 = 4;
/// A connection that is not used for so long is closed.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// A mail server answers each command within this time.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// A whole mail is sent within this time.
const MAIL_TIME: Duration = Duration::from_secs(300);

/// Why a mail was not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// This mail is refused for good.
    Refused(String),
    /// This mail is not taken now.
    NotNow(String),
    /// The server can not be used now, whatever the mail.
    Unusable(String),
}

impl Failure {
    pub(super) fn text(&self) -> &str {
        match self {
            Failure::Refused(t) | Failure::NotNow(t) | Failure::Unusable(t) => t,
        }
    }
}

/// Connections to mail servers, by what they are made with.
#[derive(Default)]
pub(super) struct Servers(Mutex<HashMap<MailServer, Transport>>);

/// A mail about to be sent.
pub(super) struct Outgoing<'a> {
    pub id: &'a str,
    pub recipient: &'a str,
    pub content: MailContent,
}

fn connect(server: &MailServer) -> Result<Transport, lettre::transport::smtp::Error> {
    let tls = TlsParameters::builder(server.host.clone())
        .dangerous_accept_invalid_certs(server.any_certificate)
        .dangerous_accept_invalid_hostnames(server.any_certificate)
        .build()?;
    let mut builder = Transport::builder_dangerous(&server.host)
        .port(server.port)
        .timeout(Some(ANSWER_TIME))
        .tls(match server.security {
            Security::Tls => Tls::Wrapper(tls),
            Security::StartTls => Tls::Required(tls),
            Security::IfOffered => Tls::Opportunistic(tls),
        })
        .pool_config(PoolConfig::new().max_size(CONNECTIONS).idle_timeout(IDLE_TIME));
    if !server.hello.is_empty() {
        builder = builder.hello_name(ClientId::Domain(server.hello.clone()));
    }
    if let Some((user, password)) = &server.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
    }
    Ok(builder.build())
}

fn message(settings: &Settings, mail: Outgoing) -> Result<Message, String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let from: lettre::Address = settings.from_address.parse().map_err(|e| told(&e))?;
    let to: lettre::Address = mail.recipient.parse().map_err(|e| told(&e))?;
    let name = (!settings.from_name.is_empty()).then(|| settings.from_name.clone());
    let builder = Message::builder()
        .message_id(Some(format!("<{}@{}>", mail.id, from.domain())))
        .from(Mailbox::new(name, from))
        .to(Mailbox::new(None, to))
        .subject(mail.content.subject.clone())
        .date_now();
    let content = mail.content;
    let made = match (content.html.is_empty(), content.attachments.is_empty()) {
        (true, true) => builder.singlepart(SinglePart::plain(content.plain)),
        (false, true) => builder.multipart(MultiPart::alternative_plain_html(content.plain, content.html)),
        (no_html, false) => {
            let mut body = if no_html {
                MultiPart::mixed().singlepart(SinglePart::plain(content.plain))
            } else {
                let both = MultiPart::alternative_plain_html(content.plain, content.html);
                MultiPart::mixed().multipart(both)
            };
            for file in content.attachments {
                let media = ContentType::parse(&file.media).map_err(|e| told(&e))?;
                body = body.singlepart(Attachment::new(file.name).body(file.bytes, media));
            }
            builder.multipart(body)
        }
    };
    let mut message = made.map_err(|e| told(&e))?;
    // RFC 3834: no holiday notice shall answer it.
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    message
        .headers_mut()
        .insert_raw(HeaderValue::new(automatic, "auto-generated".into()));
    Ok(message)
}

impl Servers {
    /// Sends a mail; when this returns without failure, the mail server has it.
    pub(super) async fn send(&self, settings: &Settings, mail: Outgoing<'_>) -> Result<(), Failure> {
        let message = message(settings, mail).map_err(Failure::Refused)?;
        let transport = {
            let mut known = self.0.lock();
            match known.get(&settings.server) {
                Some(transport) => transport.clone(),
                None => {
                    if known.len() >= MAX_SERVERS {
                        known.clear();
                    }
                    let transport =
                        connect(&settings.server).map_err(|e| Failure::Unusable(e.to_string()))?;
                    known.insert(settings.server.clone(), transport.clone());
                    transport
                }
            }
        };
        match tokio::time::timeout(MAIL_TIME, transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(failure(&e)),
            Err(_) => Err(Failure::Unusable(format!(
                "the mail server did not take the mail within {} seconds",
                MAIL_TIME.as_secs()
            ))),
        }
    }
}

/// What a failure means for this mail and for others. The texts are the mail server's or the library's; the library puts
/// no credentials into them.
fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let text = error.to_string();
    let code = error.status().map_or(0, u16::from);
    match code {
        // Log-in and encryption are matters of the settings, and 421 is a server that goes.
        421 | 454 | 530 | 534 | 535 | 538 => Failure::Unusable(text),
        400..=499 => Failure::NotNow(text),
        500..=599 => Failure::Refused(text),
        _ => Failure::Unusable(text),
    }
}
