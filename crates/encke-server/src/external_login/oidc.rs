//! Log-in by OpenID Connect: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0, section 3.1;
//! RFC 7636; RFC 9207).

use crate::app::now;
use crate::storage_templates::http::{exchange, is_url};
use encke_api::constants::{PROVIDER_AZUREADV2, PROVIDER_DASHBOARD, PROVIDER_GENERIC, PROVIDER_GOOGLE};
use encke_api::types::OidcConfig;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreGenderClaim, CoreJsonWebKeySet,
    CoreProviderMetadata,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
    UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Where a provider describes itself, below its issuer (OpenID Connect Discovery 1.0, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// A log-in at the provider may take this long, in seconds.
pub(super) const LOG_IN_TIME: i64 = 600;

/// Why nobody logged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The provider, or a rule of ours, does not let this person in.
    #[error("{0}")]
    Refused(String),
    /// The provider can not be asked, or answers what can not be used.
    #[error("{0}")]
    Unavailable(String),
}

/// A log-in that the browser is on its way with; it travels in a sealed cookie.
#[derive(Serialize, Deserialize)]
pub(super) struct Begun {
    pub source: String,
    state: String,
    nonce: String,
    verifier: String,
    redirect: String,
    /// Unix seconds.
    expires: i64,
}

impl Begun {
    /// Whether the browser reaches this server by TLS.
    pub fn is_secure(&self) -> bool {
        self.redirect.starts_with("https:")
    }
}

/// What the provider sent the browser back with.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    code: String,
    state: String,
    error: String,
    iss: Option<String>,
}

/// Somebody whom the provider knows.
#[derive(Debug)]
pub(super) struct Person {
    /// What the provider calls this person for good.
    pub subject: String,
    /// The name to log in with there.
    pub name: String,
}

/// Says what is wrong with settings.
pub(super) fn check(config: &OidcConfig) -> Result<(), String> {
    if config.display_name.trim().is_empty() || config.display_name.len() > 100 {
        return Err("DisplayName has 1 to 100 bytes: it stands on the button".into());
    }
    if config.client_id.is_empty() {
        return Err("ClientID must not be empty".into());
    }
    match config.provider.as_str() {
        PROVIDER_GENERIC if !is_url(&config.discovery_document_url) => {
            return Err("DiscoveryDocumentURL is an http or https address".into());
        }
        PROVIDER_GENERIC => {}
        PROVIDER_AZUREADV2 => {
            let tenant = &config.azure_tenant_id;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            if tenant.is_empty()
                || !tenant.chars().all(plain)
                || ["common", "organizations", "consumers"].contains(&tenant.as_str())
            {
                return Err("AzureTenantID is the id or domain of one directory".into());
            }
        }
        PROVIDER_GOOGLE => {
            if config.google_hosted_domain.is_empty() && config.required_claims.is_empty() {
                return Err(
                    "GoogleHostedDomain or RequiredClaims must say who may log in: else every Google account could"
                        .into(),
                );
            }
        }
        PROVIDER_DASHBOARD => {
            return Err("Provider 'dashboard' is a service of the vendor's own; use 'oidc'".into());
        }
        other => return Err(format!("Provider '{other}' is not oidc, azure-ad-v2 or google")),
    }
    if config
        .scopes
        .iter()
        .any(|s| s.is_empty() || s.contains(char::is_whitespace))
    {
        return Err("A scope is a word without spaces".into());
    }
    if config.required_claims.iter().any(|c| c.name.is_empty()) {
        return Err("A required claim needs a Name".into());
    }
    Ok(())
}

/// The provider's identifier.
fn issuer(config: &OidcConfig) -> String {
    match config.provider.as_str() {
        PROVIDER_AZUREADV2 => format!(
            "https://login.microsoftonline.com/{}/v2.0",
            config.azure_tenant_id
        ),
        PROVIDER_GOOGLE => "https://accounts.google.com".into(),
        _ => {
            let url = config.discovery_document_url.trim();
            url.strip_suffix(WELL_KNOWN)
                .unwrap_or(url)
                .trim_end_matches('/')
                .to_string()
        }
    }
}

fn scopes(config: &OidcConfig) -> Vec<String> {
    if config.scopes.is_empty() {
        return vec!["profile".into(), "email".into()];
    }
    config.scopes.iter().filter(|s| *s != "openid").cloned().collect()
}

/// What a provider says of itself, and its keys.
pub(super) async fn discover(config: &OidcConfig) -> Result<CoreProviderMetadata, Failure> {
    let issuer = issuer(config);
    let unavailable =
        |why: String| Failure::Unavailable(format!("The provider {issuer} can not be used: {why}"));
    let request = axum::http::Request::get(format!("{issuer}{WELL_KNOWN}"))
        .header("accept", "application/json")
        .body(Vec::new())
        .map_err(|e| unavailable(e.to_string()))?;
    let answer = exchange(request).await.map_err(|e| unavailable(e.to_string()))?;
    if !answer.status().is_success() {
        return Err(unavailable(format!(
            "its description answers {}",
            answer.status().as_u16()
        )));
    }
    let metadata: CoreProviderMetadata = serde_json::from_slice(answer.body())
        .map_err(|e| unavailable(format!("its description can not be read: {e}")))?;
    // Who describes another issuer could speak for it (OpenID Connect Discovery 1.0, section 4.3).
    if metadata.issuer().as_str().trim_end_matches('/') != issuer {
        return Err(unavailable(format!(
            "it calls itself {}",
            metadata.issuer().as_str()
        )));
    }
    let keys = CoreJsonWebKeySet::fetch_async(metadata.jwks_uri(), &exchange::<Vec<u8>>)
        .await
        .map_err(|e| unavailable(format!("its keys can not be read: {e}")))?;
    Ok(metadata.set_jwks(keys))
}

/// Where the browser goes, and what it comes back with.
pub(super) fn begin(
    config: &OidcConfig,
    source: &str,
    metadata: &Arc<CoreProviderMetadata>,
    redirect: &str,
) -> Result<(String, Begun), Failure> {
    let wrong = |e: openidconnect::url::ParseError| Failure::Unavailable(e.to_string());
    let client = CoreClient::from_provider_metadata(
        (**metadata).clone(),
        ClientId::new(config.client_id.clone()),
        None,
    )
    .set_redirect_uri(RedirectUrl::new(redirect.to_string()).map_err(wrong)?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = client
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            CsrfToken::new_random,
            Nonce::new_random,
        )
        .add_scopes(scopes(config).into_iter().map(Scope::new))
        .set_pkce_challenge(challenge);
    if config.provider == PROVIDER_GOOGLE && !config.google_hosted_domain.is_empty() {
        request = request.add_extra_param("hd", config.google_hosted_domain.clone());
    }
    let (url, state, nonce) = request.url();
    let begun = Begun {
        source: source.to_string(),
        state: state.secret().clone(),
        nonce: nonce.secret().clone(),
        verifier: verifier.secret().clone(),
        redirect: redirect.to_string(),
        expires: now() + LOG_IN_TIME,
    };
    Ok((url.to_string(), begun))
}

/// Claims as they come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Others(Map<String, Value>);
impl AdditionalClaims for Others {}

/// Who came back from the provider.
pub(super) async fn finish(config: &OidcConfig, begun: Begun, answer: Answer) -> Result<Person, Failure> {
    let refused = |why: &str| Failure::Refused(why.to_string());
    if begun.expires < now() {
        return Err(refused("The log-in took too long; start again"));
    }
    let same = subtle::ConstantTimeEq::ct_eq(begun.state.as_bytes(), answer.state.as_bytes());
    if !bool::from(same) {
        return Err(refused("The answer belongs to another log-in; start again"));
    }
    if !answer.error.is_empty() {
        // A word of the protocol, never the provider's own text.
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let word: String = answer.error.chars().filter(plain).take(60).collect();
        return Err(Failure::Refused(format!(
            "The provider refuses the log-in ({word})"
        )));
    }
    let metadata = discover(config).await?;
    if answer.iss.is_some_and(|iss| iss != metadata.issuer().as_str()) {
        return Err(refused("The answer comes from another provider"));
    }
    let claims = claims_of(config, metadata, begun, answer.code).await?;
    check_claims(config, &claims).map_err(Failure::Refused)?;
    person_of(&claims).ok_or_else(|| refused("The provider tells no name"))
}

/// Redeems the code and verifies what comes for it.
async fn claims_of(
    config: &OidcConfig,
    metadata: CoreProviderMetadata,
    begun: Begun,
    code: String,
) -> Result<Map<String, Value>, Failure> {
    let refused = |why: String| Failure::Refused(format!("The provider's answer does not hold: {why}"));
    let methods = metadata
        .token_endpoint_auth_methods_supported()
        .cloned()
        .unwrap_or_default();
    let secret = Some(&config.client_secret).filter(|s| !s.is_empty());
    let mut client = CoreClient::from_provider_metadata(
        metadata,
        ClientId::new(config.client_id.clone()),
        secret.map(|s| ClientSecret::new(s.clone())),
    )
    .set_redirect_uri(RedirectUrl::new(begun.redirect).map_err(|e| refused(e.to_string()))?);
    if methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
    {
        client = client.set_auth_type(AuthType::RequestBody);
    }
    let token = client
        .exchange_code(AuthorizationCode::new(code))
        .map_err(|e| refused(e.to_string()))?
        .set_pkce_verifier(PkceCodeVerifier::new(begun.verifier))
        .request_async(&exchange::<Vec<u8>>)
        .await
        .map_err(|e| match e {
            openidconnect::RequestTokenError::ServerResponse(told) => {
                Failure::Refused(format!("The provider refuses the code ({})", told.error()))
            }
            other => Failure::Unavailable(format!("The provider can not be asked: {other}")),
        })?;
    let id_token = token
        .id_token()
        .ok_or_else(|| refused("it has no ID token".into()))?;
    let verifier = client.id_token_verifier();
    let verified = id_token
        .claims(&verifier, &Nonce::new(begun.nonce))
        .map_err(|e| refused(e.to_string()))?;
    if let Some(expected) = verified.access_token_hash() {
        let algorithm = id_token.signing_alg().map_err(|e| refused(e.to_string()))?;
        let key = id_token
            .signing_key(&verifier)
            .map_err(|e| refused(e.to_string()))?;
        let actual = AccessTokenHash::from_token(token.access_token(), algorithm, key);
        if actual.map_err(|e| refused(e.to_string()))? != *expected {
            return Err(refused("its access token is another's".into()));
        }
    }
    let subject = verified.subject().clone();
    let mut claims = Map::new();
    // Many providers tell names and groups here alone. What it lacks, a required claim finds missing.
    if let Ok(request) = client.user_info(token.access_token().clone(), Some(subject.clone())) {
        match request.request_async(&exchange::<Vec<u8>>).await {
            Ok(told) => {
                let told: UserInfoClaims<Others, CoreGenderClaim> = told;
                if let Ok(Value::Object(told)) = serde_json::to_value(&told) {
                    claims = told;
                }
            }
            Err(e) => tracing::warn!(error = %e, "the provider tells nothing more of who logs in"),
        }
    }
    // Verified above; read again, since the library keeps no claims that it does not know.
    claims.extend(
        payload(&id_token.to_string()).ok_or_else(|| refused("its ID token can not be read".into()))?,
    );
    claims.insert("sub".into(), subject.as_str().into());
    Ok(claims)
}

fn payload(token: &str) -> Option<Map<String, Value>> {
    use base64::Engine as _;
    let body = token.split('.').nth(1)?;
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(body)
        .ok()?;
    serde_json::from_slice(&body).ok()
}

/// Whether the claims let somebody in.
fn check_claims(config: &OidcConfig, claims: &Map<String, Value>) -> Result<(), String> {
    let domain = &config.google_hosted_domain;
    if config.provider == PROVIDER_GOOGLE && !domain.is_empty() {
        let told = claims.get("hd").and_then(Value::as_str).unwrap_or_default();
        if !told.eq_ignore_ascii_case(domain) {
            return Err(format!("Only accounts of {domain} may log in"));
        }
    }
    for required in &config.required_claims {
        let is = |value: &Value| match value {
            Value::String(text) => *text == required.value,
            Value::Array(_) | Value::Object(_) | Value::Null => false,
            other => {
                let written = other.to_string();
                written == required.value
            }
        };
        let met = match claims.get(&required.name) {
            None | Some(Value::Null) => false,
            Some(_) if required.value.is_empty() => true,
            Some(Value::Array(all)) => all.iter().any(is),
            Some(one) => is(one),
        };
        if !met {
            return Err(format!(
                "Your account at the provider lacks what is required here ({})",
                required.name
            ));
        }
    }
    Ok(())
}

fn person_of(claims: &Map<String, Value>) -> Option<Person> {
    let text = |name: &str| {
        let value = claims.get(name).and_then(Value::as_str)?.trim();
        (!value.is_empty()).then(|| value.to_string())
    };
    // An address that the provider did not verify could be anybody's.
    let verified = claims
        .get("email_verified")
        .is_none_or(|v| v != &Value::Bool(false) && v != "false");
    let subject = text("sub")?;
    let name = text("preferred_username")
        .or_else(|| text("email").filter(|_| verified))
        .or_else(|| text("upn"))
        .unwrap_or_else(|| subject.clone());
    Some(Person { subject, name })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(claims) => claims,
            other => panic!("{other}"),
        }
    }

    fn config(value: Value) -> OidcConfig {
        let mut whole = claims(json!({
            "DisplayName": "Button", "ClientID": "encke", "ClientSecret": "", "SkipMFA": false,
        }));
        whole.extend(claims(value));
        serde_json::from_value(Value::Object(whole)).unwrap()
    }

    #[test]
    fn google_lets_in_the_domain_alone() {
        let google = config(json!({ "Provider": "google", "GoogleHostedDomain": "example.com" }));
        assert!(check(&google).is_ok());
        assert!(check_claims(&google, &claims(json!({ "sub": "1", "hd": "example.com" }))).is_ok());
        assert!(check_claims(&google, &claims(json!({ "sub": "1", "hd": "example.org" }))).is_err());
        assert!(check_claims(&google, &claims(json!({ "sub": "1", "email": "a@example.com" }))).is_err());
        assert!(check(&config(json!({ "Provider": "google" }))).is_err());
    }

    #[test]
    fn an_azure_directory_is_one() {
        let of = |tenant: &str| config(json!({ "Provider": "azure-ad-v2", "AzureTenantID": tenant }));
        let one = of("72f988bf-86f1-41af-91ab-2d7cd011db47");
        assert!(check(&one).is_ok());
        assert_eq!(
            issuer(&one),
            "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
        );
        for wrong in ["", "common", "organizations", "a/../common", "consumers"] {
            assert!(check(&of(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_required_claim_is_a_value_or_one_of_a_list() {
        let of = |value: Value| {
            config(
                json!({ "Provider": "oidc", "DiscoveryDocumentURL": "https://idp.example.com", "RequiredClaims": [value] }),
            )
        };
        let group = of(json!({ "Name": "groups", "Value": "backup" }));
        for right in [json!("backup"), json!(["staff", "backup"])] {
            assert!(check_claims(&group, &claims(json!({ "groups": right }))).is_ok());
        }
        for wrong in [
            json!("backups"),
            json!(["staff"]),
            json!([]),
            Value::Null,
            json!({ "backup": true }),
        ] {
            assert!(check_claims(&group, &claims(json!({ "groups": wrong }))).is_err());
        }
        let present = of(json!({ "Name": "employee" }));
        assert!(check_claims(&present, &claims(json!({ "employee": 7 }))).is_ok());
        assert!(check_claims(&present, &claims(json!({}))).is_err());
        let flag = of(json!({ "Name": "staff", "Value": "true" }));
        assert!(check_claims(&flag, &claims(json!({ "staff": true }))).is_ok());
    }

    #[test]
    fn an_address_that_is_not_verified_is_no_name() {
        let of = |value: Value| person_of(&claims(value)).unwrap().name;
        assert_eq!(
            of(json!({ "sub": "7", "email": "a@example.com", "email_verified": false })),
            "7"
        );
        assert_eq!(
            of(json!({ "sub": "7", "email": "a@example.com" })),
            "a@example.com"
        );
        assert_eq!(
            of(json!({ "sub": "7", "email": "a@example.com", "preferred_username": "anna" })),
            "anna"
        );
        assert!(person_of(&claims(json!({ "name": "Anna" }))).is_none());
    }
}
