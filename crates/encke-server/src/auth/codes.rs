//! One-time codes by time (RFC 6238: SHA-1, six digits, 30 seconds), each good for one log-in only.

use crate::app::App;
use base64::Engine as _;
use encke_api::ApiError;
use encke_api::account_keys::KeyError;
use std::time::Duration;
use totp_rs::{Algorithm, TOTP};

/// Seconds a code is shown.
const STEP: u64 = 30;
/// Codes of this many steps before and after are accepted, for clocks that differ.
const SKEW: u8 = 1;
/// Pixels a module of the QR code.
const SCALE: usize = 6;

/// Codes that were used already.
pub struct UsedCodes(moka::sync::Cache<String, ()>);

impl Default for UsedCodes {
    fn default() -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(100_000)
                .time_to_live(Duration::from_secs(300))
                .build(),
        )
    }
}

/// What an account's secret is wrapped for.
pub(crate) fn place(account: &str) -> String {
    format!("totp:{account}")
}

fn totp(secret: Vec<u8>) -> Option<TOTP> {
    TOTP::new(Algorithm::SHA1, 6, SKEW, STEP, secret).ok()
}

/// A new secret for an account: as it is stored (wrapped with the server's key), and in clear.
///
/// # Errors
/// No random numbers.
pub fn new_secret(app: &App, account: &str) -> Result<(String, Vec<u8>), KeyError> {
    let mut secret = vec![0; 20];
    getrandom::fill(&mut secret).map_err(|_| KeyError::Random)?;
    Ok((app.server_key.wrap(&place(account), &secret)?, secret))
}

/// Whether a code is right and was not used before.
#[must_use]
pub fn verify_code(app: &App, account: &str, wrapped: &str, code: &str) -> bool {
    let Ok(secret) = app.server_key.unwrap_secret(&place(account), wrapped) else {
        return false;
    };
    let Some(totp) = totp(secret) else { return false };
    let code = code.trim();
    if !totp.check_current(code).unwrap_or(false) {
        return false;
    }
    // `entry` makes one of two simultaneous uses lose.
    app.used_codes
        .0
        .entry(format!("{account}\n{code}"))
        .or_insert(())
        .is_fresh()
}

/// The `otpauth` URL that authenticator programs read.
#[must_use]
pub fn secret_url(issuer: &str, account: &str, secret: &[u8]) -> String {
    let secret = base32(secret);
    let (issuer, account) = (percent(issuer), percent(account));
    format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&digits=6&period={STEP}")
}

/// RFC 4648 base32 without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        for i in 0..(chunk.len() * 8).div_ceil(5) {
            out.push(char::from(
                ALPHABET[usize::try_from((bits >> (35 - 5 * i)) & 31).unwrap_or_default()],
            ));
        }
    }
    out
}

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// A QR code as a PNG in a data URI.
///
/// # Errors
/// 500 when the text is too long for one.
pub fn qr_data_uri(text: &str) -> Result<String, ApiError> {
    let code = qrcodegen::QrCode::encode_text(text, qrcodegen::QrCodeEcc::Medium)
        .map_err(|_| ApiError::internal())?;
    let size = usize::try_from(code.size()).unwrap_or_default();
    let pixels = (size + 8) * SCALE;
    let mut image = vec![255u8; pixels * pixels];
    for (i, pixel) in image.iter_mut().enumerate() {
        // Four modules of margin, as the standard asks.
        let module = |at: usize| i32::try_from(at / SCALE).unwrap_or_default() - 4;
        if code.get_module(module(i % pixels), module(i / pixels)) {
            *pixel = 0;
        }
    }
    let mut out = Vec::new();
    let side = u32::try_from(pixels).unwrap_or_default();
    let mut encoder = png::Encoder::new(&mut out, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut w| w.write_image_data(&image))
        .map_err(|_| ApiError::internal())?;
    Ok(format!(
        "data:image/png;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(out)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_matches_the_rfc() {
        assert_eq!(base32(b"foobar"), "MZXW6YTBOI");
        assert_eq!(base32(b"f"), "MY");
    }
}
