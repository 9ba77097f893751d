//! How parameters arrive: `application/x-www-form-urlencoded`, parsed leniently because one SDK does not escape
//! at all (source: `spec/README.md`, "Requests" and "Parameters").

use crate::error::{ApiError, ApiResult};
use crate::wire::{Seed, Wire, WireName, WireStruct};
use serde::de::DeserializeSeed;
use std::path::{Path, PathBuf};

/// Most fields in one form. The widest published call has 12 and a caller adds 5 credentials.
const MAX_FIELDS: usize = 100;
/// Largest part of a multipart body that is looked at as text, in bytes. Credentials are far smaller.
const MAX_TEXT_PART: usize = 16 * 1024;

/// The fields of one request, in order.
#[derive(Clone, Debug, Default)]
pub struct Form {
    fields: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    kept: Vec<(String, PathBuf)>,
}

impl Form {
    /// Parses a body. Bad escapes stay as they are; text after an unescaped `&` inside JSON is put back.
    ///
    /// # Errors
    /// More than [`MAX_FIELDS`] fields.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for piece in body.split(|&b| b == b'&') {
            if piece.is_empty() {
                continue;
            }
            if let Some(eq) = piece.iter().position(|&b| b == b'=') {
                let (name, value) = (decode(&piece[..eq]), decode(&piece[eq + 1..]));
                // An unescaped JSON text with `&...=` inside: names of parameters are plain words.
                match fields.last_mut() {
                    Some(last) if open_json(&last.1) && !is_parameter_name(&name) => {
                        last.1 = format!("{}&{name}={value}", last.1);
                    }
                    _ => fields.push((name, value)),
                }
            } else {
                let text = decode(piece);
                match fields.last_mut() {
                    Some(last) if open_json(&last.1) => last.1 = format!("{}&{text}", last.1),
                    _ => fields.push((text, String::new())),
                }
            }
            if fields.len() > MAX_FIELDS {
                return Err(ApiError::bad_request("Too many form fields"));
            }
        }
        Ok(Self {
            fields,
            files: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The content of a part of a multipart body.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, content)| content.as_slice())
    }

    /// Puts a part of a multipart body. It is a field as well when it is text of the size that fields have: one SDK
    /// gives its file no name, so nothing else tells the two apart.
    ///
    /// # Errors
    /// More than [`MAX_FIELDS`] parts.
    pub fn put_part(&mut self, name: &str, content: Vec<u8>) -> ApiResult<()> {
        if self.files.len() >= MAX_FIELDS {
            return Err(ApiError::bad_request("Too many form fields"));
        }
        if content.len() <= MAX_TEXT_PART
            && let Ok(text) = std::str::from_utf8(&content)
        {
            self.put_default(name, text);
        }
        self.files.push((name.to_string(), content));
        Ok(())
    }

    /// Puts a part of a multipart body that was written to a file.
    pub fn put_kept(&mut self, name: &str, path: PathBuf) {
        self.kept.push((name.to_string(), path));
    }

    /// The file that a part of a multipart body was written to.
    #[must_use]
    pub fn kept(&self, name: &str) -> Option<&Path> {
        self.kept
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, path)| path.as_path())
    }

    /// Puts a field that came another way (the headers of the upload call) unless the form has it.
    pub fn put_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.fields.push((name.to_string(), value.to_string()));
        }
    }
}

/// Whether the text began as JSON and has not been closed yet, as happens when `&` was not escaped.
fn open_json(text: &str) -> bool {
    text.starts_with(['{', '[', '"']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn decode(raw: &[u8]) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        match raw[i] {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |at: usize| raw.get(at).and_then(|&b| char::from(b).to_digit(16));
                if let (Some(h), Some(l)) = (digit(i + 1), digit(i + 2)) {
                    out.push(u8::try_from(h * 16 + l).unwrap_or_default());
                    i += 2;
                } else {
                    out.push(b'%');
                }
            }
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// One parameter as the reference shows it.
#[derive(Clone, Copy)]
pub struct Param {
    /// The form field's exact name.
    pub name: &'static str,
    /// Type in the specification's type language.
    pub type_name: fn() -> String,
    /// May be absent.
    pub optional: bool,
    /// JSON text inside the field.
    pub json: bool,
    /// What it is for.
    pub doc: &'static str,
}

/// The parameters of an endpoint.
pub trait FromForm: Sized {
    /// Their description.
    const PARAMS: &'static [Param];
    /// Reads them.
    ///
    /// # Errors
    /// 400 naming the parameter that is missing or malformed.
    fn from_form(form: &Form) -> ApiResult<Self>;
}

/// A type that a parameter can have.
pub trait ParamValue: Sized {
    /// May be absent.
    const OPTIONAL: bool = false;
    /// JSON text inside the field.
    const JSON: bool = false;
    /// Type in the specification's type language.
    fn type_name() -> String;
    /// Reads the field.
    ///
    /// # Errors
    /// 400 naming the parameter.
    fn parse(name: &str, text: &str) -> ApiResult<Self>;
    /// Reads the parameter from a form.
    ///
    /// # Errors
    /// 400 naming the parameter.
    fn take(form: &Form, name: &str) -> ApiResult<Self> {
        match form.get(name) {
            Some(text) => Self::parse(name, text),
            None => Self::absent(name),
        }
    }
    /// The value when the field is absent.
    ///
    /// # Errors
    /// 400 naming the parameter, unless it is optional.
    fn absent(name: &str) -> ApiResult<Self> {
        Err(ApiError::bad_request(format!("Missing parameter '{name}'")))
    }
}

impl ParamValue for String {
    fn type_name() -> String {
        "string".into()
    }
    fn parse(_: &str, text: &str) -> ApiResult<Self> {
        Ok(text.to_string())
    }
}

impl ParamValue for i64 {
    fn type_name() -> String {
        "int".into()
    }
    fn parse(name: &str, text: &str) -> ApiResult<Self> {
        match text.trim() {
            // The two spellings of booleans also reach the parameters that are typed as 0 or 1.
            "true" => Ok(1),
            "false" => Ok(0),
            t => t
                .parse()
                .map_err(|_| ApiError::bad_request(format!("Parameter '{name}' must be a whole number"))),
        }
    }
}

impl ParamValue for bool {
    fn type_name() -> String {
        "bool".into()
    }
    fn parse(name: &str, text: &str) -> ApiResult<Self> {
        match text.trim() {
            "1" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "false" | "False" | "FALSE" | "" => Ok(false),
            _ => Err(ApiError::bad_request(format!(
                "Parameter '{name}' must be true, false, 1 or 0"
            ))),
        }
    }
}

/// A file of the upload call: a part of a multipart body, with or without a file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload(pub Vec<u8>);

impl ParamValue for Upload {
    fn type_name() -> String {
        "bytes".into()
    }
    /// An ordinary form field of the same name does as well.
    fn parse(_: &str, text: &str) -> ApiResult<Self> {
        Ok(Self(text.as_bytes().to_vec()))
    }
    fn take(form: &Form, name: &str) -> ApiResult<Self> {
        match (form.file(name), form.get(name)) {
            (Some(content), _) => Ok(Self(content.to_vec())),
            (None, Some(text)) => Self::parse(name, text),
            (None, None) => Self::absent(name),
        }
    }
}

/// A file too large for memory: a part of a multipart body, written to a file that is there while the call is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LargeUpload {
    /// The file.
    Kept(PathBuf),
    /// The content, from an ordinary form field of the same name.
    Text(String),
}

impl ParamValue for LargeUpload {
    fn type_name() -> String {
        "bytes".into()
    }
    fn parse(_: &str, text: &str) -> ApiResult<Self> {
        Ok(Self::Text(text.to_string()))
    }
    fn take(form: &Form, name: &str) -> ApiResult<Self> {
        match (form.kept(name), form.get(name)) {
            (Some(path), _) => Ok(Self::Kept(path.to_path_buf())),
            (None, Some(text)) => Self::parse(name, text),
            (None, None) => Self::absent(name),
        }
    }
}

/// A parameter that is JSON text.
#[derive(Clone, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: Wire + WireName> ParamValue for Json<T> {
    const JSON: bool = true;
    fn type_name() -> String {
        T::wire_name()
    }
    fn parse(name: &str, text: &str) -> ApiResult<Self> {
        let mut de = serde_json::Deserializer::from_str(text);
        Seed::<T>::new()
            .deserialize(&mut de)
            .and_then(|v| de.end().map(|()| Json(v)))
            .map_err(|e| ApiError::bad_request(format!("Parameter '{name}' is not valid JSON: {e}")))
    }
}

impl<T: ParamValue> ParamValue for Option<T> {
    const OPTIONAL: bool = true;
    const JSON: bool = T::JSON;
    fn type_name() -> String {
        T::type_name()
    }
    fn parse(name: &str, text: &str) -> ApiResult<Self> {
        // An unset optional value reaches us as an empty field from some clients.
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(name, text).map(Some)
        }
    }
    fn absent(_: &str) -> ApiResult<Self> {
        Ok(None)
    }
}

impl WireName for Vec<String> {
    fn wire_name() -> String {
        "[]string".into()
    }
}

impl<T: WireStruct> WireName for Vec<T> {
    fn wire_name() -> String {
        format!("[]{}", T::wire_name())
    }
}

impl WireName for Vec<i64> {
    fn wire_name() -> String {
        "[]int".into()
    }
}

impl<T: WireName> WireName for std::collections::BTreeMap<String, T> {
    fn wire_name() -> String {
        format!("map[string]{}", T::wire_name())
    }
}

/// Declares the parameters of an endpoint. Field names are the wire's names.
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $( $(#[doc = $doc:literal])* $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[allow(non_snake_case)]
        $vis struct $name { $( $(#[doc = $doc])* pub $field: $ty ),* }
        impl $crate::form::FromForm for $name {
            const PARAMS: &'static [$crate::form::Param] = &[
                $( $crate::form::Param {
                    name: stringify!($field),
                    type_name: <$ty as $crate::form::ParamValue>::type_name,
                    optional: <$ty as $crate::form::ParamValue>::OPTIONAL,
                    json: <$ty as $crate::form::ParamValue>::JSON,
                    doc: concat!("", $($doc),*),
                } ),*
            ];
            fn from_form(form: &$crate::form::Form) -> $crate::ApiResult<Self> {
                let _ = form;
                Ok(Self { $( $field: <$ty as $crate::form::ParamValue>::take(form, stringify!($field))? ),* })
            }
        }
    };
}

params! {
    /// A call without parameters.
    pub struct NoParams {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unescaped_ampersand_inside_json_is_put_back() {
        let form = Form::parse(br#"A=1&Data={"x":"a&b","y":"c&d=e f&"}&B=2"#).unwrap();
        assert_eq!(form.get("B"), Some("2"));
        // A name that looks like a parameter can not be told from one; everything else survives.
        assert!(form.get("Data").unwrap().starts_with(r#"{"x":"a&b""#));
    }

    #[test]
    fn bad_escapes_stay_literally() {
        let form = Form::parse(b"A=100%&B=%zz&C=%4").unwrap();
        assert_eq!(
            (form.get("A"), form.get("B"), form.get("C")),
            (Some("100%"), Some("%zz"), Some("%4"))
        );
    }

    proptest! {
        #[test]
        fn any_body_parses_without_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn an_escaped_value_comes_back_whole(value in "\\PC{0,60}") {
            let escaped: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            let form = Form::parse(format!("Name={escaped}&Next=1").as_bytes()).unwrap();
            prop_assert_eq!(form.get("Name"), Some(value.as_str()));
            prop_assert_eq!(form.get("Next"), Some("1"));
        }
    }
}
