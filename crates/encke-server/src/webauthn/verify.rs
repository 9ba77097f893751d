//! What an authenticator answers, checked (source: W3C "Web Authentication" level 2, sections 6.1, 6.5, 7.1 and 7.2).
//! No I/O: bytes in, verdict out.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ciborium::Value as Cbor;
use encke_api::constants::{
    WEBAUTHN_DEVICE_TYPE__ANDROID, WEBAUTHN_DEVICE_TYPE__APPLE, WEBAUTHN_DEVICE_TYPE__HARDWARE_TOKEN,
    WEBAUTHN_DEVICE_TYPE__TPM_GENERIC, WEBAUTHN_DEVICE_TYPE__TPM_WINDOWS, WEBAUTHN_DEVICE_TYPE__UNKNOWN,
};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// COSE numbers of the signatures that are understood (RFC 9053, RFC 8812): ES256, EdDSA, RS256, best first.
pub const ALGORITHMS: [i64; 3] = [-7, -8, -257];
/// Longest credential id in bytes.
const MAX_ID: usize = 1023;
/// Longest answer of an authenticator in bytes: attestation certificates are the largest part.
const MAX_ANSWER: usize = 64 * 1024;

const USER_PRESENT: u8 = 1;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;

/// Why an answer does not prove anything; for the log, since a caller learns nothing from it.
pub type Refusal = &'static str;

/// Who asks: the name that keys are bound to, and the pages that may ask in that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    /// Host name.
    pub id: String,
    /// Origins as browsers write them, such as `https://backup.example.org`.
    pub origins: Vec<String>,
}

/// A key that was made.
#[derive(Debug)]
pub struct NewKey {
    /// Credential id.
    pub id: Vec<u8>,
    /// Public key (COSE).
    pub public_key: Vec<u8>,
    /// Format of the attestation. Its trust chain is not looked at: any authenticator is good enough.
    pub attestation: String,
    /// Model of the authenticator, or zeros.
    pub aaguid: Vec<u8>,
    /// Signatures so far, or 0 where the authenticator does not count.
    pub count: u32,
    /// One of the `WEBAUTHN_DEVICE_TYPE_` constants.
    pub kind: i64,
}

/// `PublicKeyCredential` as browsers write it; bytes as base64 of any kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    #[serde(default)]
    id: String,
    #[serde(default)]
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    authenticator_attachment: Option<String>,
    response: Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    #[serde(default)]
    attestation_object: String,
    #[serde(default)]
    authenticator_data: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    user_handle: Option<String>,
    #[serde(default)]
    transports: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attestation {
    fmt: String,
    att_stmt: Cbor,
    #[serde(with = "serde_bytes_of_cbor")]
    auth_data: Vec<u8>,
}

/// Reads a CBOR byte string.
mod serde_bytes_of_cbor {
    use super::Cbor;
    use serde::{Deserialize, Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        Cbor::deserialize(input)?
            .into_bytes()
            .map_err(|_| D::Error::custom("not bytes"))
    }
}

/// Base64 of either alphabet, padded or not: browsers and libraries differ.
fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    GeneralPurpose::new(alphabet, lenient)
        .decode(text)
        .map_err(|_| "not base64")
}

fn read(json: &str) -> Result<Credential, Refusal> {
    if json.len() > MAX_ANSWER {
        return Err("the credential is too large");
    }
    let credential: Credential = serde_json::from_str(json).map_err(|_| "not a credential")?;
    if credential.kind != "public-key" {
        return Err("not a public key");
    }
    Ok(credential)
}

/// Checks what the browser signed along: what for, for which challenge, on which page.
fn check_client(json: &[u8], kind: &str, challenge: &[u8], party: &RelyingParty) -> Result<(), Refusal> {
    let client: ClientData = serde_json::from_slice(json).map_err(|_| "no client data")?;
    if client.kind != kind {
        return Err("signed for another purpose");
    }
    if !bool::from(decode(&client.challenge)?.ct_eq(challenge)) {
        return Err("signed for another challenge");
    }
    if client.cross_origin || !party.origins.contains(&client.origin) {
        return Err("signed on another page");
    }
    Ok(())
}

/// The fixed part of what the authenticator signs.
struct AuthData<'a> {
    flags: u8,
    count: u32,
    rest: &'a [u8],
}

fn auth_data<'a>(bytes: &'a [u8], party: &RelyingParty) -> Result<AuthData<'a>, Refusal> {
    let (hash, rest) = bytes.split_at_checked(32).ok_or("short authenticator data")?;
    let (flags, rest) = rest.split_first().ok_or("short authenticator data")?;
    let (count, rest) = rest.split_first_chunk().ok_or("short authenticator data")?;
    if !bool::from(hash.ct_eq(&Sha256::digest(party.id.as_bytes()))) {
        return Err("signed for another host");
    }
    if flags & USER_PRESENT == 0 {
        return Err("nobody was present");
    }
    if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
        return Err("contradicting flags");
    }
    Ok(AuthData {
        flags: *flags,
        count: u32::from_be_bytes(*count),
        rest,
    })
}

/// The id of the key that signed, to look it up before [`signed`].
///
/// # Errors
/// The text is not a credential.
pub fn key_id(json: &str) -> Result<Vec<u8>, Refusal> {
    let credential = read(json)?;
    let id = if credential.raw_id.is_empty() {
        &credential.id
    } else {
        &credential.raw_id
    };
    decode(id)
}

/// Checks the answer to a request for a new key.
///
/// # Errors
/// Why it is not to be believed.
pub fn created(json: &str, challenge: &[u8], party: &RelyingParty) -> Result<NewKey, Refusal> {
    let credential = read(json)?;
    let client = decode(&credential.response.client_data_json)?;
    check_client(&client, "webauthn.create", challenge, party)?;
    let object = decode(&credential.response.attestation_object)?;
    let attestation: Attestation =
        ciborium::from_reader(object.as_slice()).map_err(|_| "no attestation object")?;
    let data = auth_data(&attestation.auth_data, party)?;
    if data.flags & HAS_CREDENTIAL == 0 {
        return Err("no key came along");
    }
    let (aaguid, rest) = data.rest.split_at_checked(16).ok_or("short key data")?;
    let (length, rest) = rest.split_first_chunk().ok_or("short key data")?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (id, mut rest) = rest.split_at_checked(length).ok_or("short key data")?;
    if id.is_empty() || id.len() > MAX_ID || key_id(json)? != id {
        return Err("the ids of the key differ");
    }
    let whole = rest;
    let key: Cbor = ciborium::from_reader(&mut rest).map_err(|_| "the public key can not be read")?;
    let public_key = whole[..whole.len() - rest.len()].to_vec();
    let key = PublicKey::new(&key)?;
    if attestation.fmt == "packed" {
        check_self_attestation(&attestation, &key, &client)?;
    }
    let transports = credential.response.transports.unwrap_or_default();
    let kind = device_type(
        &attestation.fmt,
        aaguid,
        credential.authenticator_attachment.as_deref(),
        &transports,
    );
    Ok(NewKey {
        id: id.to_vec(),
        public_key,
        attestation: attestation.fmt.clone(),
        aaguid: aaguid.to_vec(),
        count: data.count,
        kind,
    })
}

/// A "packed" statement without certificates is signed with the new key itself. One with certificates is about the
/// model, which nobody here asks for.
fn check_self_attestation(a: &Attestation, key: &PublicKey, client: &[u8]) -> Result<(), Refusal> {
    let entries = a.att_stmt.as_map().ok_or("no attestation statement")?;
    let of = |name: &str| {
        entries
            .iter()
            .find(|(k, _)| k.as_text() == Some(name))
            .map(|(_, v)| v)
    };
    if of("x5c").is_some() {
        return Ok(());
    }
    let signature = of("sig").and_then(Cbor::as_bytes).ok_or("no signature")?;
    key.check(
        &[a.auth_data.as_slice(), &Sha256::digest(client)].concat(),
        signature,
    )
}

/// Checks the answer to a request to sign, with a stored key. Answers the new count of signatures.
///
/// # Errors
/// Why it is not to be believed.
pub fn signed(
    json: &str,
    challenge: &[u8],
    party: &RelyingParty,
    user_handle: &[u8],
    public_key: &[u8],
) -> Result<u32, Refusal> {
    let response = read(json)?.response;
    let client = decode(&response.client_data_json)?;
    check_client(&client, "webauthn.get", challenge, party)?;
    if let Some(handle) = response.user_handle.filter(|h| !h.is_empty())
        && decode(&handle)? != user_handle
    {
        return Err("signed for another account");
    }
    let bytes = decode(&response.authenticator_data)?;
    let data = auth_data(&bytes, party)?;
    let key: Cbor = ciborium::from_reader(public_key).map_err(|_| "the stored key can not be read")?;
    PublicKey::new(&key)?.check(
        &[bytes.as_slice(), &Sha256::digest(&client)].concat(),
        &decode(&response.signature)?,
    )?;
    Ok(data.count)
}

/// Whether a count of signatures follows another: authenticators that do not count say 0 for ever.
#[must_use]
pub fn follows(before: u32, now: u32) -> bool {
    (before == 0 && now == 0) || now > before
}

enum PublicKey {
    Es256(Vec<u8>),
    EdDsa(Vec<u8>),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    /// From a COSE key (RFC 9052, section 7; RFC 9053; RFC 8230).
    fn new(key: &Cbor) -> Result<Self, Refusal> {
        let entries = key.as_map().ok_or("the key is no map")?;
        let of = |label: i64| {
            let found = entries.iter().find(|(k, _)| *k == Cbor::from(label));
            found.map(|(_, v)| v)
        };
        let number = |label| of(label).and_then(Cbor::as_integer).map(i128::from);
        let bytes = |label| of(label).and_then(Cbor::as_bytes).ok_or("the key is not whole");
        match (number(1), number(3), number(-1)) {
            (Some(2), Some(-7), Some(1)) => {
                let (x, y) = (bytes(-2)?, bytes(-3)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("not a point of the curve");
                }
                Ok(Self::Es256([&[4], x.as_slice(), y].concat()))
            }
            (Some(1), Some(-8), Some(6)) => Ok(Self::EdDsa(bytes(-2)?.clone())),
            (Some(3), Some(-257), _) => Ok(Self::Rs256 {
                n: bytes(-1)?.clone(),
                e: bytes(-2)?.clone(),
            }),
            _ => Err("a key of a kind that was not asked for"),
        }
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let verdict = match self {
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Self::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        verdict.map_err(|_| "the signature is wrong")
    }
}

/// What people see of a key: a hint from what the authenticator says about itself, nothing to rely on.
fn device_type(format: &str, aaguid: &[u8], attachment: Option<&str>, transports: &[String]) -> i64 {
    // Windows Hello: with hardware, with virtualisation, in software (FIDO metadata and the public AAGUID list).
    const WINDOWS: [&str; 3] = [
        "08987058cadc4b81b6e130de50dcbe96",
        "9ddd1817af5a4672a2b93e3dd95000a9",
        "6028b017b1d44c02b4b3afcdafc96bb2",
    ];
    // iCloud Keychain; Google Password Manager.
    const APPLE: &str = "fbfc3007154e4ecc8c0b6e020557d7bd";
    const GOOGLE: &str = "ea9b8d664d011d213ce4b6b48cb575d4";
    let model = hex::encode(aaguid);
    match format {
        _ if WINDOWS.contains(&model.as_str()) => WEBAUTHN_DEVICE_TYPE__TPM_WINDOWS,
        "tpm" => WEBAUTHN_DEVICE_TYPE__TPM_GENERIC,
        "apple" => WEBAUTHN_DEVICE_TYPE__APPLE,
        "android-key" | "android-safetynet" => WEBAUTHN_DEVICE_TYPE__ANDROID,
        _ if model == APPLE => WEBAUTHN_DEVICE_TYPE__APPLE,
        _ if model == GOOGLE => WEBAUTHN_DEVICE_TYPE__ANDROID,
        "fido-u2f" => WEBAUTHN_DEVICE_TYPE__HARDWARE_TOKEN,
        _ if attachment == Some("cross-platform")
            || transports
                .iter()
                .any(|t| ["usb", "nfc", "ble"].contains(&t.as_str())) =>
        {
            WEBAUTHN_DEVICE_TYPE__HARDWARE_TOKEN
        }
        _ => WEBAUTHN_DEVICE_TYPE__UNKNOWN,
    }
}
