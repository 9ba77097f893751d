//! The sample data set: persons registered with a sports association, any number of them, always the same for a seed.

use crate::template::{Column, ColumnType, Template};
use jiff::civil::Date;
use serde_json::{Map, Value, json};

/// Most rows of a sample.
pub const MAX_SAMPLE_ROWS: u64 = 10_000_000;
/// Number of the template of persons.
pub const PERSONS: i64 = 1001;

const COLUMNS: &[Column] = &[
    Column {
        key: "personId",
        kind: ColumnType::Number,
        names: &[("en", "Person ID"), ("de", "Personen-Nr.")],
    },
    Column {
        key: "firstName",
        kind: ColumnType::String,
        names: &[("en", "First name"), ("de", "Vorname")],
    },
    Column {
        key: "lastName",
        kind: ColumnType::String,
        names: &[("en", "Last name"), ("de", "Nachname")],
    },
    Column {
        key: "gender",
        kind: ColumnType::String,
        names: &[("en", "Gender"), ("de", "Geschlecht")],
    },
    Column {
        key: "dateOfBirth",
        kind: ColumnType::Date,
        names: &[("en", "Date of birth"), ("de", "Geburtsdatum")],
    },
    Column {
        key: "nationality",
        kind: ColumnType::String,
        names: &[("en", "Nationality"), ("de", "Nationalität")],
    },
    Column {
        key: "level",
        kind: ColumnType::String,
        names: &[("en", "Level"), ("de", "Ebene")],
    },
    Column {
        key: "height",
        kind: ColumnType::Number,
        names: &[("en", "Height (cm)"), ("de", "Größe (cm)")],
    },
    Column {
        key: "weight",
        kind: ColumnType::Number,
        names: &[("en", "Weight (kg)"), ("de", "Gewicht (kg)")],
    },
    Column {
        key: "photo",
        kind: ColumnType::ImageLink,
        names: &[("en", "Photo"), ("de", "Foto")],
    },
    Column {
        key: "orgName",
        kind: ColumnType::String,
        names: &[("en", "Organization"), ("de", "Organisation")],
    },
    Column {
        key: "registrationStatus",
        kind: ColumnType::String,
        names: &[("en", "Status"), ("de", "Status")],
    },
    Column {
        key: "registrationDate",
        kind: ColumnType::DateTime,
        names: &[("en", "Registered at"), ("de", "Angemeldet am")],
    },
];

pub(crate) const TEMPLATE: Template = Template {
    id: PERSONS,
    name: "Person Registrations",
    columns: COLUMNS,
    has_uid: true,
};

/// A country, its men's and women's first names, and its family names.
type Names = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const NAMES: &[Names] = &[
    (
        "Croatia",
        &["Luka", "Ivan", "Marko"],
        &["Ana", "Petra", "Iva"],
        &["Horvat", "Kovačić", "Babić", "Jurić"],
    ),
    (
        "Germany",
        &["Jonas", "Lukas", "Jürgen"],
        &["Lena", "Käthe", "Sophie"],
        &["Müller", "Weiß", "Schäfer", "Vogel"],
    ),
    (
        "Ireland",
        &["Seán", "Conor", "Declan"],
        &["Aoife", "Niamh", "Orla"],
        &["O'Brien", "Murphy", "Byrne", "Walsh"],
    ),
    (
        "Cyprus",
        &["Andreas", "Giorgos", "Nikos"],
        &["Maria", "Eleni", "Sofia"],
        &["Georgiou", "Charalambous", "Ioannou"],
    ),
    (
        "Portugal",
        &["João", "Tiago", "Rui"],
        &["Inês", "Beatriz", "Carla"],
        &["Silva", "Conceição", "Sousa", "Pires"],
    ),
    (
        "Japan",
        &["Haruto", "Ren", "Takumi"],
        &["Yui", "Sakura", "Aoi"],
        &["Satō", "Suzuki", "Takahashi", "Itō"],
    ),
    (
        "Ghana",
        &["Kwame", "Kofi", "Yaw"],
        &["Ama", "Akosua", "Efua"],
        &["Mensah", "Owusu", "Boateng", "Asante"],
    ),
    (
        "Poland",
        &["Łukasz", "Jan", "Paweł"],
        &["Zofia", "Małgorzata", "Ewa"],
        &["Nowak", "Wiśniewski", "Zając"],
    ),
];
const CLUBS: &[&str] = &[
    "Harbour United",
    "FC Old Town",
    "Rowers 1921",
    "Mountain Athletic",
    "Riverside SC",
    "Lighthouse City",
    "Union West",
];
const LEVELS: &[&str] = &["PROFESSIONAL", "AMATEUR", "YOUTH"];
const STATUSES: &[&str] = &["ACTIVE", "ACTIVE", "ACTIVE", "PENDING", "INACTIVE"];

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> i64 {
        i64::try_from(self.next() % n).unwrap_or_default()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.next() % list.len() as u64).unwrap_or_default()]
    }
}

/// Milliseconds of a day's midnight in UTC.
fn day(date: Date) -> i64 {
    date.to_zoned(jiff::tz::TimeZone::UTC)
        .map_or(0, |z| z.timestamp().as_millisecond())
}

/// One row: all columns of the template, `uid` and `lastUpdateDateTime`. `pictures` is the public address of the
/// folder of pictures.
fn row(number: u64, seed: u64, pictures: &str) -> Map<String, Value> {
    let mut r = Random(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
    let (country, men, women, families) =
        NAMES[usize::try_from(r.next() % NAMES.len() as u64).unwrap_or_default()];
    let female = r.below(2) == 0;
    let born = Date::constant(1958, 1, 1)
        .checked_add(jiff::Span::new().days(r.below(52 * 365)))
        .unwrap_or_default();
    let registered = 1_577_836_800_000 + r.below(6 * 365 * 86_400) * 1000;
    let photo = if r.below(5) == 0 {
        "placeholder".to_string()
    } else {
        format!("person/{number}")
    };
    let optional = |known: bool, value: i64| if known { json!(value) } else { Value::Null };
    let known = r.below(6) > 0;
    let values = [
        json!(100_000 + number),
        json!(r.pick(if female { women } else { men })),
        json!(r.pick(families)),
        json!(if female { "FEMALE" } else { "MALE" }),
        json!(day(born)),
        json!(country),
        json!(r.pick(LEVELS)),
        optional(known, 155 + r.below(45)),
        optional(known, 48 + r.below(52)),
        json!(format!("{pictures}/{photo}.svg")),
        json!(r.pick(CLUBS)),
        json!(r.pick(STATUSES)),
        json!(registered),
    ];
    let mut out: Map<String, Value> = COLUMNS.iter().map(|c| c.key.to_string()).zip(values).collect();
    out.insert("uid".into(), json!(500_000 + number));
    out.insert(
        "lastUpdateDateTime".into(),
        json!(registered + r.below(90 * 86_400) * 1000),
    );
    out
}

/// The rows of a sample, one after the other.
pub fn sample_rows(size: u64, seed: u64, pictures: &str) -> impl Iterator<Item = Map<String, Value>> + '_ {
    (1..=size.min(MAX_SAMPLE_ROWS)).map(move |number| row(number, seed, pictures))
}
