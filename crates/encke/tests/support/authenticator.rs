//! A security key in software, for tests: makes a key pair and signs as W3C "Web Authentication" says, apart from the
//! server's own code.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A key pair of each kind that servers ask for.
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl Pair {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut out).unwrap();
                out
            }
        }
    }

    fn cose_key(&self) -> Vec<u8> {
        let bytes = |b: &[u8]| Cbor::Bytes(b.to_vec());
        let entries = match self {
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let kind = [(1, 2.into()), (3, (-7).into()), (-1, 1.into())];
                let place = [(-2, bytes(&point[1..33])), (-3, bytes(&point[33..]))];
                kind.into_iter().chain(place).collect::<Vec<(i64, Cbor)>>()
            }
            Self::EdDsa(pair) => {
                let key = bytes(pair.public_key().as_ref());
                vec![(1, 1.into()), (3, (-8).into()), (-1, 6.into()), (-2, key)]
            }
            Self::Rs256(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                let (n, e) = (bytes(&public.n), bytes(&public.e));
                vec![(1, 3.into()), (3, (-257).into()), (-1, n), (-2, e)]
            }
        };
        let map = entries.into_iter().map(|(k, v)| (Cbor::from(k), v)).collect();
        let mut out = Vec::new();
        ciborium::into_writer(&Cbor::Map(map), &mut out).unwrap();
        out
    }
}

/// A security key with one credential.
pub struct Authenticator {
    pair: Pair,
    /// Whether it signs for the credential it makes, with the new key itself.
    pub attests: bool,
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
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
        Self::with(Pair::Es256(pair.unwrap()), origin)
    }

    /// One that makes Ed25519 keys.
    pub fn ed25519(origin: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::with(
            Pair::EdDsa(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()),
            origin,
        )
    }

    /// One that makes RSA keys; the key comes from the system's OpenSSL.
    pub fn rsa(origin: &str) -> Self {
        let made = std::process::Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-outform",
                "DER",
            ])
            .output()
            .unwrap();
        let pair = RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout));
        Self::with(Pair::Rs256(Box::new(pair.unwrap())), origin)
    }

    fn with(pair: Pair, origin: &str) -> Self {
        let id = Sha256::digest(pair.cose_key()).to_vec();
        Self {
            pair,
            attests: false,
            id,
            count: 0,
            origin: origin.to_string(),
        }
    }

    fn auth_data(&self, host: &str, flags: u8) -> Vec<u8> {
        let hash = Sha256::digest(host.as_bytes());
        [hash.as_slice(), &[flags], &self.count.to_be_bytes()].concat()
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
        data.extend(self.pair.cose_key());
        let (format, statement) = if self.attests {
            let message = [data.as_slice(), &Sha256::digest(&client)].concat();
            let signature = Cbor::Bytes(self.pair.sign(&message));
            (
                "packed",
                vec![("alg".into(), Cbor::from(-7)), ("sig".into(), signature)],
            )
        } else {
            ("none", Vec::new())
        };
        let attestation = Cbor::Map(vec![
            ("fmt".into(), format.into()),
            ("attStmt".into(), Cbor::Map(statement)),
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
        let signature = self.pair.sign(&message);
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
