//! Text as Go's standard library writes it, on which the names of tree blobs depend: JSON strings, quoted file names and
//! times (documentation of Go's `encoding/json`, `strconv.Quote` and `time.RFC3339Nano`).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Writes text as Go's JSON does: `<`, `>`, `&` and the two line separators escaped too.
pub(crate) fn write_json(text: &str, out: &mut String) {
    out.push('"');
    let plain = |b: u8| (0x20..0x7f).contains(&b) && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&');
    if text.bytes().all(plain) {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
    }
    out.push('"');
}

/// What Go's `unicode.IsPrint` says: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' => false,
        c => !matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other
        ),
    }
}

/// Escapes a file name as `strconv.Quote` does, without the quotation marks, so that any bytes survive in text.
pub(crate) fn quote(name: &[u8]) -> Cow<'_, str> {
    let plain = |c: char| is_print(c) && c != '"' && c != '\\';
    if let Ok(text) = std::str::from_utf8(name)
        && text.chars().all(plain)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match c {
                '"' => out.write_str("\\\""),
                '\\' => out.write_str("\\\\"),
                '\x07' => out.write_str("\\a"),
                '\x08' => out.write_str("\\b"),
                '\x0c' => out.write_str("\\f"),
                '\n' => out.write_str("\\n"),
                '\r' => out.write_str("\\r"),
                '\t' => out.write_str("\\t"),
                '\x0b' => out.write_str("\\v"),
                c if plain(c) => out.write_char(c),
                '\0'..' ' | '\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
                c if u32::from(c) < 0x10000 => write!(out, "\\u{:04x}", u32::from(c)),
                c => write!(out, "\\U{:08x}", u32::from(c)),
            };
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    Cow::Owned(out)
}

/// The file name that [`quote`] has escaped.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let mut chars = rest[at + 1..].chars();
        let escape = chars.next()?;
        rest = chars.as_str();
        let mut number = |digits: usize| {
            let value = u32::from_str_radix(rest.get(..digits)?, 16).ok()?;
            rest = &rest[digits..];
            Some(value)
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '"' => out.push(b'"'),
            '\'' => out.push(b'\''),
            'x' => out.push(u8::try_from(number(2)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(number(if escape == 'u' { 4 } else { 8 })?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

static ZONE: LazyLock<TimeZone> = LazyLock::new(TimeZone::system);
const DAY: i64 = 86_400;
/// Years that RFC 3339 can tell, as seconds: from 0000 to 9999.
const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

/// Writes a time in the system's zone, as restic does.
pub(crate) fn write_time(time: Timestamp, out: &mut String) {
    let offset = i64::from(ZONE.to_offset(time).seconds());
    write_time_at(time, offset, out);
}

fn write_time_at(time: Timestamp, offset: i64, out: &mut String) {
    let (mut seconds, mut nanos) = parts(time);
    seconds += offset;
    if !YEARS.contains(&seconds) {
        (seconds, nanos) = (seconds.clamp(YEARS.start, YEARS.end - 1), 0);
    }
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let of_day = seconds.rem_euclid(DAY);
    number(year, 4, out);
    for (mark, n) in [
        ('-', month),
        ('-', day),
        ('T', of_day / 3600),
        (':', of_day / 60 % 60),
        (':', of_day % 60),
    ] {
        out.push(mark);
        number(n, 2, out);
    }
    if nanos != 0 {
        out.push('.');
        number(nanos, 9, out);
        out.truncate(out.trim_end_matches('0').len());
    }
    if offset == 0 {
        out.push('Z');
    } else {
        out.push(if offset < 0 { '-' } else { '+' });
        number(offset.abs() / 3600, 2, out);
        out.push(':');
        number(offset.abs() / 60 % 60, 2, out);
    }
}

/// Seconds since 1970, and nanoseconds counted upwards from them before 1970 too.
pub(crate) fn parts(time: Timestamp) -> (i64, i64) {
    let (seconds, nanos) = (time.as_second(), i64::from(time.subsec_nanosecond()));
    if nanos < 0 {
        (seconds - 1, nanos + 1_000_000_000)
    } else {
        (seconds, nanos)
    }
}

fn number(n: i64, digits: u32, out: &mut String) {
    for power in (0..digits).rev() {
        let digit = u8::try_from(n / 10i64.pow(power) % 10).unwrap_or_default();
        out.push(char::from(b'0' + digit));
    }
}

/// Year, month and day of the days since 1970. Years are counted from March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    // 0000-03-01 is 719,468 days before 1970.
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

/// Reads a time in RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    fn digits(text: &[u8]) -> Option<i64> {
        text.iter()
            .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    }
    let text = text.as_bytes();
    let (date, mut rest) = text.split_at_checked(19)?;
    let field = |from: usize, to: usize| digits(&date[from..to]);
    let marks = [date[4], date[7], date[10], date[13], date[16]];
    let (month, day) = (field(5, 7)?, field(8, 10)?);
    if marks != *b"--T::" || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut seconds =
        days(field(0, 4)?, month, day) * DAY + field(11, 13)? * 3600 + field(14, 16)? * 60 + field(17, 19)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = length.min(9);
        nanos = digits(&fraction[..kept])? * 10i64.pow(9 - u32::try_from(kept).ok()?);
        rest = &fraction[length..];
    }
    match rest {
        b"Z" => {}
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let offset = digits(&[*h1, *h2])? * 3600 + digits(&[*m1, *m2])? * 60;
            seconds -= if *sign == b'-' { -offset } else { offset };
        }
        _ => return None,
    }
    Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()
}

/// For `#[serde(with)]`.
pub(crate) mod time {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, parse_time, write_time};
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        write_time(*time, &mut text);
        out.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
        #[derive(serde::Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        parse_time(&Text::deserialize(input)?.0).ok_or_else(|| serde::de::Error::custom("not a time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_survives(name in prop::collection::vec(any::<u8>(), 0..30)) {
            prop_assert_eq!(unquote(&quote(&name)).unwrap(), name);
        }

        #[test]
        fn any_text_is_json(text in any::<String>()) {
            let mut json = String::new();
            write_json(&text, &mut json);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn times_agree_with_a_calendar_library(
            seconds in -62_135_596_800i64..253_402_200_000, nanos in 0i32..1_000_000_000, offset in -14i32 * 60..14 * 60
        ) {
            let time = Timestamp::new(seconds, nanos).unwrap();
            let mut text = String::new();
            write_time_at(time, i64::from(offset) * 60, &mut text);
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), time);
            prop_assert_eq!(parse_time(&text), Some(time));
        }

        #[test]
        fn any_text_is_a_time_or_is_refused(text in "\\PC{0,40}") {
            let _ = parse_time(&text);
        }
    }

    #[test]
    fn times_are_written_as_go_does() {
        let cases = [
            (0, 0, 0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, 120_000_000, 0, "2023-11-14T22:13:20.12Z"),
            (1_709_164_800, 1, 3600, "2024-02-29T01:00:00.000000001+01:00"),
            (-1, 0, -5400, "1969-12-31T22:29:59-01:30"),
        ];
        for (seconds, nanos, offset, expected) in cases {
            let mut text = String::new();
            write_time_at(Timestamp::new(seconds, nanos).unwrap(), offset, &mut text);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain name", "plain name"),
            ("gr\u{fc}n \u{1f600}".as_bytes(), "gr\u{fc}n \u{1f600}"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\x01\x7f\n", r"\x01\x7f\n"),
            (b"\xff\xfe", r"\xff\xfe"),
            ("\u{a0}\u{200b}\u{e000}".as_bytes(), r"\u00a0\u200b\ue000"),
            ("\u{e0001}".as_bytes(), r"\U000e0001"),
        ];
        for (name, expected) in cases {
            assert_eq!(quote(name), expected);
        }
    }
}
