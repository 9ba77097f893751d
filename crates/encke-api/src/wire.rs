//! How structures are read and written: `null` is accepted anywhere and never sent, unknown properties are kept,
//! an optional property is left out when it holds its zero value (source: `spec/README.md`, "Parameters",
//! "Responses and errors").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Most unknown properties kept in one structure; more is an attack, not a newer client.
const MAX_UNKNOWN_PROPERTIES: usize = 1000;

/// A value that can stand in a structure of the API.
pub trait Wire: Sized + Default {
    /// Reads the value; `null` gives the zero value.
    ///
    /// # Errors
    /// The JSON value has another type or does not fit the number's width.
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error>;
    /// Writes the value.
    ///
    /// # Errors
    /// Only those of the output.
    fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error>;
    /// Whether this is the zero value, which optional properties leave out.
    fn is_zero(&self) -> bool;
}

/// A structure: a name and typed fields.
pub trait WireStruct: Sized + Default + PartialEq {
    /// Name in the published API.
    const NAME: &'static str;
    /// Reads the value of one property.
    ///
    /// # Errors
    /// The value does not have the property's type.
    fn read_field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
    /// Writes all properties in the published order, then the unknown ones.
    ///
    /// # Errors
    /// Only those of the output.
    fn write_fields<M: SerializeMap>(&self, out: &mut M) -> Result<(), M::Error>;
}

/// Reads a [`Wire`] value in place of serde's own implementation.
pub struct Seed<T>(PhantomData<T>);

impl<T> Seed<T> {
    /// A reader for `T`.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Seed<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'de, T: Wire> DeserializeSeed<'de> for Seed<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
        T::read(input)
    }
}

/// Writes a [`Wire`] value in place of serde's own implementation.
pub struct Out<'a, T>(pub &'a T);

impl<T: Wire> serde::Serialize for Out<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.write(out)
    }
}

/// Keeps a property this version does not know. `null` stands for "not set" and is dropped.
///
/// # Errors
/// The value is not JSON, or there are too many unknown properties.
pub fn keep_unknown<'de, A: MapAccess<'de>>(
    unknown: &mut Map<String, Value>,
    key: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    let value: Value = map.next_value()?;
    if unknown.len() >= MAX_UNKNOWN_PROPERTIES {
        return Err(de::Error::custom("too many unknown properties"));
    }
    if !value.is_null() {
        unknown.insert(key.to_string(), value);
    }
    Ok(())
}

/// Writes the kept unknown properties.
///
/// # Errors
/// Only those of the output.
pub fn write_unknown<M: SerializeMap>(unknown: &Map<String, Value>, out: &mut M) -> Result<(), M::Error> {
    for (k, v) in unknown {
        out.serialize_entry(k, v)?;
    }
    Ok(())
}

struct StructVisitor<T>(PhantomData<T>);

impl<'de, T: WireStruct> Visitor<'de> for StructVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a {} object", T::NAME)
    }
    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_none<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            value
                .read_field(&key, &mut map)
                .map_err(|e| de::Error::custom(format_args!("{}.{key}: {e}", T::NAME)))?;
        }
        Ok(value)
    }
    /// PHP writes an empty object as `[]`.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        match seq.next_element::<de::IgnoredAny>()? {
            None => Ok(T::default()),
            Some(_) => Err(de::Error::custom(format_args!(
                "{}: expected an object, found an array",
                T::NAME
            ))),
        }
    }
}

/// Reads a structure.
///
/// # Errors
/// Not an object, or a property of the wrong type.
pub fn read_struct<'de, T: WireStruct, D: Deserializer<'de>>(input: D) -> Result<T, D::Error> {
    input.deserialize_any(StructVisitor(PhantomData))
}

/// Writes a structure.
///
/// # Errors
/// Only those of the output.
pub fn write_struct<T: WireStruct, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(None)?;
    value.write_fields(&mut map)?;
    map.end()
}

/// Gives a [`WireStruct`] its [`Wire`], `Serialize` and `Deserialize` implementations.
#[macro_export]
macro_rules! wire_struct {
    ($name:ident) => {
        impl $crate::wire::Wire for $name {
            fn read<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                $crate::wire::read_struct(input)
            }
            fn write<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                $crate::wire::write_struct(self, out)
            }
            fn is_zero(&self) -> bool {
                *self == Self::default()
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                $crate::wire::write_struct(self, out)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                $crate::wire::read_struct(input)
            }
        }
    };
}
pub use wire_struct;

/// Reads a structure from JSON text and writes it again.
pub type RoundTrip = fn(&str) -> Result<String, serde_json::Error>;

/// The [`RoundTrip`] of one structure.
///
/// # Errors
/// The text is not this structure.
pub fn round_trip<T: WireStruct + serde::Serialize + de::DeserializeOwned>(
    text: &str,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&serde_json::from_str::<T>(text)?)
}

macro_rules! wire_integer {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct V;
                impl Visitor<'_> for V {
                    type Value = $t;
                    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                        write!(f, "an integer ({})", stringify!($t))
                    }
                    fn visit_unit<E: de::Error>(self) -> Result<$t, E> { Ok(0) }
                    fn visit_none<E: de::Error>(self) -> Result<$t, E> { Ok(0) }
                    fn visit_i64<E: de::Error>(self, v: i64) -> Result<$t, E> {
                        <$t>::try_from(v).map_err(|_| E::custom(format_args!("{v} does not fit {}", stringify!($t))))
                    }
                    fn visit_u64<E: de::Error>(self, v: u64) -> Result<$t, E> {
                        <$t>::try_from(v).map_err(|_| E::custom(format_args!("{v} does not fit {}", stringify!($t))))
                    }
                    /// Some clients print whole numbers as `1.0`.
                    #[allow(clippy::cast_possible_truncation)]
                    fn visit_f64<E: de::Error>(self, v: f64) -> Result<$t, E> {
                        if v.fract() == 0.0 && v.abs() < 9_007_199_254_740_992.0 {
                            return self.visit_i64(v as i64);
                        }
                        Err(E::custom(format_args!("{v} is not a whole number")))
                    }
                }
                input.deserialize_any(V)
            }
            fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, out)
            }
            fn is_zero(&self) -> bool { *self == 0 }
        }
    )*};
}
wire_integer!(i64, i32, u64, u32, u8);

macro_rules! wire_plain {
    ($($t:ty => $zero:expr),*) => {$(
        impl Wire for $t {
            fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Ok(<Option<$t> as serde::Deserialize>::deserialize(input)?.unwrap_or_default())
            }
            fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, out)
            }
            fn is_zero(&self) -> bool { $zero(self) }
        }
    )*};
}
wire_plain!(
    String => String::is_empty,
    bool => |v: &bool| !*v,
    f32 => |v: &f32| *v == 0.0,
    Value => Value::is_null
);

impl<T: Wire> Wire for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Wire> Visitor<'de> for V<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }
            fn visit_none<E: de::Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut out = Vec::new();
                while let Some(v) = seq.next_element_seed(Seed::new())? {
                    out.push(v);
                }
                Ok(out)
            }
        }
        input.deserialize_any(V(PhantomData))
    }
    fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut seq = out.serialize_seq(Some(self.len()))?;
        for v in self {
            seq.serialize_element(&Out(v))?;
        }
        seq.end()
    }
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Wire> Visitor<'de> for V<T> {
            type Value = BTreeMap<String, T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(BTreeMap::new())
            }
            fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(BTreeMap::new())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = BTreeMap::new();
                while let Some(k) = map.next_key::<String>()? {
                    out.insert(k, map.next_value_seed(Seed::new())?);
                }
                Ok(out)
            }
            /// PHP writes an empty map as `[]`.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(BTreeMap::new()),
                    Some(_) => Err(de::Error::custom("expected an object, found an array")),
                }
            }
        }
        input.deserialize_any(V(PhantomData))
    }
    fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(self.len()))?;
        for (k, v) in self {
            map.serialize_entry(k, &Out(v))?;
        }
        map.end()
    }
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// Bytes that stand in JSON as padded standard base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl Wire for Base64Bytes {
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::read(input)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|_| de::Error::custom("not base64"))
    }
    fn write<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&STANDARD.encode(&self.0))
    }
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name a type has in the specification's type language, for the API reference.
pub trait WireName {
    /// For example `[]string` or `map[string]UserProfileConfig`.
    fn wire_name() -> String;
}

impl WireName for String {
    fn wire_name() -> String {
        "string".into()
    }
}
impl<T: WireStruct> WireName for T {
    fn wire_name() -> String {
        T::NAME.to_string()
    }
}
