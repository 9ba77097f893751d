//! Security keys of administrators (W3C "Web Authentication"; reference, section 4.3): registering one, and signing
//! in with one. `verify` judges what an authenticator answers.

mod verify;

use crate::admins::{change_own, event};
use crate::app::{App, now};
use crate::auth::{Admin, find_admin};
use crate::origin::Origin;
use crate::table::{Call, Doc, Envelope, Route, done};
use axum::http::Uri;
use encke_api::constants::SEVT_ACCOUNT_ADMIN_UPDATED;
use encke_api::types::{
    AdminWebAuthnRegistration, AllowedAdminUser, WebAuthnAuthenticatorSelection, WebAuthnCredential,
    WebAuthnCredentialAssertion, WebAuthnCredentialDescriptor, WebAuthnCredentialParameter,
    WebAuthnPublicKeyCredentialCreationOptions, WebAuthnPublicKeyCredentialRequestOptions,
    WebAuthnRegistrationChallengeResponse, WebAuthnRelyingPartyEntity, WebAuthnSignRequest,
    WebAuthnSignResponse, WebAuthnUserEntity,
};
use encke_api::wire::Base64Bytes;
use encke_api::{ApiError, ApiResult, params};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use verify::RelyingParty;

/// A challenge is good for this long.
const LIFETIME: Duration = Duration::from_secs(300);
/// Challenges open at once.
const MAX_OPEN: u64 = 10_000;
/// Keys one administrator may have.
const MAX_KEYS: usize = 32;

/// Challenges that wait for their answer; each is good once.
pub struct Challenges(moka::sync::Cache<String, Arc<Challenge>>);

impl Default for Challenges {
    fn default() -> Self {
        let open = moka::sync::Cache::builder()
            .max_capacity(MAX_OPEN)
            .time_to_live(LIFETIME)
            .build();
        Self(open)
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Purpose {
    Register,
    SignIn,
}

struct Challenge {
    purpose: Purpose,
    organization: String,
    name: String,
    bytes: [u8; 32],
    party: RelyingParty,
}

impl Challenges {
    fn open(
        &self,
        purpose: Purpose,
        admin: &AllowedAdminUser,
        party: RelyingParty,
    ) -> ApiResult<(String, Vec<u8>)> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
        let id = uuid::Uuid::new_v4().to_string();
        let challenge = Challenge {
            purpose,
            organization: admin.organization_id.clone(),
            name: admin.username.clone(),
            bytes,
            party,
        };
        self.0.insert(id.clone(), Arc::new(challenge));
        Ok((id, bytes.to_vec()))
    }

    /// Takes a challenge: whatever comes of it, it is gone.
    fn take(&self, id: &str, purpose: Purpose, name: &str, organization: &str) -> Option<Arc<Challenge>> {
        let found = self.0.remove(id)?;
        let own = found.purpose == purpose && found.name == name && found.organization == organization;
        own.then_some(found)
    }
}

/// An origin as browsers write it, and its host name: the default port is left out.
fn origin_of(scheme: &str, authority: &str) -> Option<(String, String)> {
    let uri: Uri = format!("{scheme}://{authority}/").parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().filter(|p| *p != default);
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    Some((format!("{scheme}://{host}{port}"), host))
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// The party at an address that a caller gives as `SelfAddress`.
fn party_at(address: &str) -> ApiResult<RelyingParty> {
    let wrong = |why: &str| ApiError::bad_request(format!("SelfAddress '{address}' {why}"));
    let uri: Uri = address
        .trim()
        .parse()
        .map_err(|_| wrong("is not the address of a web page"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("is not the address of a web page"));
    };
    let (origin, id) =
        origin_of(scheme, authority.as_str()).ok_or_else(|| wrong("is not the address of a web page"))?;
    if id.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(wrong(
            "names no host: browsers bind security keys to a host name, never to a number",
        ));
    }
    if scheme != "https" && !(scheme == "http" && is_local(&id)) {
        return Err(wrong(
            "is not an https address: browsers use security keys on no other",
        ));
    }
    Ok(RelyingParty {
        id,
        origins: vec![origin],
    })
}

/// The party of a request that tells no address: the host it asks for. A proxy may have taken TLS off, so the scheme
/// is the one that browsers would insist on.
fn party_of(origin: &Origin) -> RelyingParty {
    let mut schemes = vec!["https"];
    if is_local(&origin.host) {
        schemes.push("http");
    }
    let origins = schemes
        .iter()
        .filter_map(|s| origin_of(s, &origin.authority))
        .map(|(origin, _)| origin)
        .collect();
    RelyingParty {
        id: origin.host.clone(),
        origins,
    }
}

/// What authenticators know an administrator by: steady, and no name.
fn user_handle(app: &App, organization: &str, name: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(app.server_key.to_text().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("webauthn:{organization}\n{name}").as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn descriptors(admin: &AllowedAdminUser) -> Vec<WebAuthnCredentialDescriptor> {
    let describe = |r: &AdminWebAuthnRegistration| WebAuthnCredentialDescriptor {
        type_: "public-key".into(),
        id: r.id.clone(),
        ..Default::default()
    };
    admin.web_authn_registrations.iter().map(describe).collect()
}

fn milliseconds() -> i64 {
    i64::try_from(LIFETIME.as_millis()).unwrap_or_default()
}

/// What a caller has to sign to prove a second factor: a `WebAuthnSignRequest` as JSON text. Nothing where the
/// administrator has no key.
///
/// # Errors
/// 500 without random numbers.
pub(crate) fn ask(
    app: &App,
    admin: &AllowedAdminUser,
    self_address: Option<&str>,
    origin: &Origin,
) -> ApiResult<Option<String>> {
    if admin.web_authn_registrations.is_empty() {
        return Ok(None);
    }
    let party = self_address.and_then(|a| party_at(a).ok());
    let party = party.unwrap_or_else(|| party_of(origin));
    let rp_id = party.id.clone();
    let (id, challenge) = app.challenges.open(Purpose::SignIn, admin, party)?;
    let request = WebAuthnSignRequest {
        challenge_id: id,
        assertion: WebAuthnCredentialAssertion {
            public_key: WebAuthnPublicKeyCredentialRequestOptions {
                challenge: Base64Bytes(challenge),
                timeout: milliseconds(),
                rp_id,
                allow_credentials: descriptors(admin),
                user_verification: "discouraged".into(),
                ..Default::default()
            },
            ..Default::default()
        },
        ..Default::default()
    };
    serde_json::to_string(&request)
        .map(Some)
        .map_err(|_| ApiError::internal())
}

/// Checks a `WebAuthnSignResponse`, and keeps the key's count of signatures.
///
/// # Errors
/// 403 that does not say why; the log does.
pub(crate) async fn prove(app: &App, admin: &AllowedAdminUser, answer: &str) -> ApiResult<()> {
    let refused = |why: &'static str| {
        tracing::info!(admin = %admin.username, why, "a security key's answer was refused");
        ApiError::unauthorised()
    };
    let answer: WebAuthnSignResponse =
        serde_json::from_str(answer).map_err(|_| refused("not a WebAuthnSignResponse"))?;
    let challenge = app
        .challenges
        .take(
            &answer.challenge_id,
            Purpose::SignIn,
            &admin.username,
            &admin.organization_id,
        )
        .ok_or_else(|| refused("no such challenge, or it was used"))?;
    let id = verify::key_id(&answer.credential_json).map_err(refused)?;
    let key = admin
        .web_authn_registrations
        .iter()
        .find(|r| r.id.0 == id)
        .ok_or_else(|| refused("not a key of this administrator"))?;
    let handle = user_handle(app, &admin.organization_id, &admin.username);
    let count = verify::signed(
        &answer.credential_json,
        &challenge.bytes,
        &challenge.party,
        &handle,
        &key.credential.public_key.0,
    )
    .map_err(refused)?;
    // Decided inside the change: of two answers with one count, one is a copy's.
    let (name, organization) = (admin.username.clone(), admin.organization_id.clone());
    let (tell, copied) = tokio::sync::oneshot::channel();
    app.change_config(move |config| {
        let admin = change_own(config, &name, &organization)?;
        let found = admin.web_authn_registrations.iter_mut().find(|r| r.id.0 == id);
        let credential = &mut found.ok_or_else(ApiError::unauthorised)?.credential;
        let follows = verify::follows(credential.sign_count, count);
        let _ = tell.send(!follows);
        if follows {
            credential.sign_count = count;
            return Ok(Vec::new());
        }
        credential.clone_warning = true;
        Ok(vec![event(SEVT_ACCOUNT_ADMIN_UPDATED, &admin.username, admin)])
    })
    .await?;
    if copied.await.unwrap_or(true) {
        tracing::warn!(admin = %admin.username, "a security key's count went back: there may be a copy of it");
        return Err(ApiError::unauthorised());
    }
    Ok(())
}

params! {
    /// Parameters of `AdminAccountWebauthnRequestRegistrationChallenge`.
    struct RequestChallenge {
        /// Address of the page that asks, such as `https://backup.example.org/`: the key is bound to its host name.
        SelfAddress: String
    }
}

params! {
    /// Parameters of `AdminAccountWebauthnSubmitChallengeResponse`.
    struct SubmitResponse {
        /// Address of the page that asked.
        SelfAddress: String,
        /// As it came with the challenge.
        ChallengeID: String,
        /// The browser's `PublicKeyCredential` as JSON, bytes as base64.
        Credential: String
    }
}

async fn request_challenge(
    app: Arc<App>,
    caller: Admin,
    call: Call<RequestChallenge>,
) -> ApiResult<Doc<WebAuthnRegistrationChallengeResponse>> {
    let party = party_at(&call.params.SelfAddress)?;
    let config = app.config();
    let admin = find_admin(&config.admin_users, &caller.name, &caller.organization)
        .ok_or_else(ApiError::unauthorised)?;
    if admin.web_authn_registrations.len() >= MAX_KEYS {
        return Err(ApiError::bad_request(format!(
            "You have {MAX_KEYS} security keys already"
        )));
    }
    let rp = WebAuthnRelyingPartyEntity {
        name: crate::meta::brand_name(&config),
        id: party.id.clone(),
        ..Default::default()
    };
    let (challenge_id, challenge) = app.challenges.open(Purpose::Register, admin, party)?;
    let parameter = |alg: i64| WebAuthnCredentialParameter {
        type_: "public-key".into(),
        alg,
        ..Default::default()
    };
    Ok(Doc(WebAuthnRegistrationChallengeResponse {
        status: 200,
        message: "OK".into(),
        challenge_id,
        credential_creation_options: WebAuthnPublicKeyCredentialCreationOptions {
            challenge: Base64Bytes(challenge),
            rp,
            user: WebAuthnUserEntity {
                name: admin.username.clone(),
                display_name: admin.username.clone(),
                id: Base64Bytes(user_handle(&app, &admin.organization_id, &admin.username)),
                ..Default::default()
            },
            pub_key_cred_params: verify::ALGORITHMS.map(parameter).to_vec(),
            authenticator_selection: WebAuthnAuthenticatorSelection {
                resident_key: "discouraged".into(),
                user_verification: "discouraged".into(),
                ..Default::default()
            },
            timeout: milliseconds(),
            exclude_credentials: descriptors(admin),
            attestation: "none".into(),
            ..Default::default()
        },
        ..Default::default()
    }))
}

async fn submit_response(app: Arc<App>, caller: Admin, call: Call<SubmitResponse>) -> ApiResult<Envelope> {
    let p = call.params;
    let challenge = app
        .challenges
        .take(
            &p.ChallengeID,
            Purpose::Register,
            &caller.name,
            &caller.organization,
        )
        .ok_or_else(|| {
            ApiError::bad_request("There is no such challenge, or it was used; ask for a new one")
        })?;
    if party_at(&p.SelfAddress)? != challenge.party {
        return Err(ApiError::bad_request(
            "SelfAddress is not the one the challenge was made for",
        ));
    }
    let key = verify::created(&p.Credential, &challenge.bytes, &challenge.party)
        .map_err(|why| ApiError::bad_request(format!("The security key's answer is not right: {why}")))?;
    let registration = AdminWebAuthnRegistration {
        description: format!("Security key for {}", challenge.party.id),
        register_time: now(),
        type_: key.kind,
        id: Base64Bytes(key.id),
        credential: WebAuthnCredential {
            public_key: Base64Bytes(key.public_key),
            attestation_type: key.attestation,
            aaguid: Base64Bytes(key.aaguid),
            sign_count: key.count,
            ..Default::default()
        },
        ..Default::default()
    };
    app.change_config(move |config| {
        let all = config.admin_users.iter().flat_map(|a| &a.web_authn_registrations);
        if all.into_iter().any(|r| r.id == registration.id) {
            return Err(ApiError::new(409, "This security key is registered already"));
        }
        let admin = change_own(config, &caller.name, &caller.organization)?;
        if admin.web_authn_registrations.len() >= MAX_KEYS {
            return Err(ApiError::bad_request(format!(
                "You have {MAX_KEYS} security keys already"
            )));
        }
        admin.web_authn_registrations.push(registration);
        Ok(vec![event(SEVT_ACCOUNT_ADMIN_UPDATED, &admin.username, admin)])
    })
    .await?;
    Ok(done())
}

/// Endpoints of security keys.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminAccountWebauthnRequestRegistrationChallenge",
            "/api/v1/admin/account/webauthn/request-registration-challenge",
            "Begins to register a security key: answers what the browser's `navigator.credentials.create` takes, bytes as base64. The challenge is good for five minutes and once.",
            request_challenge,
        ),
        Route::new(
            "AdminAccountWebauthnSubmitChallengeResponse",
            "/api/v1/admin/account/webauthn/submit-challenge-response",
            "Registers a security key: ES256, EdDSA or RS256, any authenticator. It counts at log-in once set-properties turns `AllowPasswordAndWebAuthnLogin` on.",
            submit_response,
        ),
    ]
}
