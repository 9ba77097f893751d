//! The one error a caller of the API can see.

/// What a handler answers.
pub type ApiResult<T> = Result<T, ApiError>;

/// A failure with what the client may read. Rides on transport status 200 as `{"Status": n, "Message": "..."}`,
/// but for 449 (second factor missing), which is also the transport status (reference, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    /// 400 to 599, in the envelope.
    pub status: u16,
    /// For people, or one of the well-known `ERR_` strings. Never empty, never a secret.
    pub message: String,
    /// What a 449 asks for.
    pub second_factor: Option<Box<SecondFactor>>,
}

/// What would do as a second factor, for the headers of a 449.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondFactor {
    /// A one-time code.
    pub totp: bool,
    /// A security key: the `WebAuthnSignRequest` as JSON text.
    pub webauthn: Option<String>,
    /// Key of a session that waits for the second factor.
    pub session_key: Option<String>,
}

impl ApiError {
    /// An error with this status and message.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            second_factor: None,
        }
    }

    /// 400: the request is wrong; the same request fails again.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 403: not known, or not allowed. One wording, so that nothing is learned from it.
    #[must_use]
    pub fn unauthorised() -> Self {
        Self::new(403, "Unauthorised")
    }

    /// 403 with a reason that the caller may know.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404: the thing named does not exist, or is not visible to the caller.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 409: the stored document has changed since it was read.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// 449: the password is right but a second factor is missing.
    #[must_use]
    pub fn second_factor_required(what: SecondFactor) -> Self {
        Self {
            second_factor: Some(Box::new(what)),
            ..Self::new(449, crate::constants::TOTP_REQUIRED_ERROR)
        }
    }

    /// 449 where only a one-time code will do.
    #[must_use]
    pub fn code_required() -> Self {
        Self::second_factor_required(SecondFactor {
            totp: true,
            ..Default::default()
        })
    }

    /// 500: our fault. What happened goes to the log, not to the caller.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(500, "Internal error; the server's log has the details")
    }

    /// 501: this server does not do that.
    #[must_use]
    pub fn unsupported(reason: &str) -> Self {
        Self::new(501, format!("Not supported by this server: {reason}"))
    }
}
