//! A security key in software, for tests: makes a P-256 key and signs as W3C "Web Authentication" says, apart from the
//! server's own code.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A security key with one credential.
pub struct Authenticator {
    key: EcdsaKeyPair,
    /// Credential id.
    pub id: Vec<u8>,
    /// Signatures so far.
    pub count: u32,
    /// Page that the browser says it is on.
    pub origin: String,
}

fn client_data(kind: &str, challenge: &str, origin: &str) -> Vec<u8> {
    let challenge = URL_SAFE_NO_PAD.encode(STANDARD.decode(challenge).unwrap());
    json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false })
        .to_string()
        .into_bytes()
}

impl Authenticator {
    /// A new one, used on a page of this origin.
    pub fn new(origin: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
        let key = key.unwrap();
        let id = Sha256::digest(key.public_key().as_ref()).to_vec();
        Self {
            key,
            id,
            count: 0,
            origin: origin.to_string(),
        }
    }

    fn auth_data(&self, host: &str, flags: u8) -> Vec<u8> {
        let hash = Sha256::digest(host.as_bytes());
        [hash.as_slice(), &[flags], &self.count.to_be_bytes()].concat()
    }

    fn cose_key(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let entries = [
            (1, Cbor::from(2)),
            (3, Cbor::from(-7)),
            (-1, Cbor::from(1)),
            (-2, Cbor::Bytes(point[1..33].to_vec())),
            (-3, Cbor::Bytes(point[33..].to_vec())),
        ];
        let map = entries.into_iter().map(|(k, v)| (Cbor::from(k), v)).collect();
        let mut out = Vec::new();
        ciborium::into_writer(&Cbor::Map(map), &mut out).unwrap();
        out
    }

    /// Answers `CredentialCreationOptions` as `navigator.credentials.create` would.
    pub fn create(&mut self, options: &Value) -> String {
        let client = client_data(
            "webauthn.create",
            options["challenge"].as_str().unwrap(),
            &self.origin,
        );
        self.count += 1;
        let mut data = self.auth_data(options["rp"]["id"].as_str().unwrap(), 0x41);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        data.extend(self.cose_key());
        let attestation = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]);
        let mut object = Vec::new();
        ciborium::into_writer(&attestation, &mut object).unwrap();
        self.credential(&json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client),
            "attestationObject": URL_SAFE_NO_PAD.encode(object),
            "transports": ["usb"],
        }))
    }

    /// Answers a `WebAuthnSignRequest` as `navigator.credentials.get` would: a `WebAuthnSignResponse`.
    pub fn sign(&mut self, request: &Value) -> String {
        let options = &request["Assertion"]["publicKey"];
        let client = client_data(
            "webauthn.get",
            options["challenge"].as_str().unwrap(),
            &self.origin,
        );
        self.count += 1;
        let data = self.auth_data(options["rpId"].as_str().unwrap(), 1);
        let message = [data.as_slice(), &Sha256::digest(&client)].concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        let credential = self.credential(&json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client),
            "authenticatorData": URL_SAFE_NO_PAD.encode(data),
            "signature": URL_SAFE_NO_PAD.encode(signature),
            "userHandle": null,
        }));
        json!({ "ChallengeID": request["ChallengeID"], "CredentialJSON": credential }).to_string()
    }

    fn credential(&self, response: &Value) -> String {
        let id = URL_SAFE_NO_PAD.encode(&self.id);
        json!({
            "id": id, "rawId": id, "type": "public-key", "authenticatorAttachment": "cross-platform",
            "clientExtensionResults": {}, "response": response,
        })
        .to_string()
    }
}
