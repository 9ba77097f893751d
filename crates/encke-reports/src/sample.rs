//! The sample association: organizations, persons, registrations, competitions, matches and discipline, any number of
//! rows, always the same for a seed. A row is made from its number alone, so tables agree with each other.

use crate::cell::Cell;
use crate::source::{SourceError, Stage};
use crate::template::{ColumnType, Template};
use jiff::civil::Date;
use std::path::Path;

/// Most rows of a sample.
pub const MAX_SAMPLE_ROWS: u64 = 10_000_000;
/// Number of the template of registrations.
pub const REGISTRATIONS: i64 = 1001;
/// Organizations that persons and matches belong to: the association, regions below it and clubs below those.
const ORGANIZATIONS: u64 = 1111;
/// Organizations below each.
const BELOW: u64 = 10;
/// Competitions that matches belong to.
const COMPETITIONS: u64 = 240;
/// 1 January 2020.
const START: i64 = 1_577_836_800_000;
const DAY: i64 = 86_400_000;

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

/// The random numbers of a row.
fn random(table: u64, number: u64, seed: u64) -> Random {
    Random(seed ^ (number.wrapping_mul(0xD134_2543_DE82_EF95)).wrapping_add(table << 56))
}

/// Milliseconds of a day's midnight in UTC.
fn day(date: Date) -> i64 {
    date.to_zoned(jiff::tz::TimeZone::UTC)
        .map_or(0, |z| z.timestamp().as_millisecond())
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The organization above; none for the association itself.
fn above(organization: u64) -> Option<u64> {
    (organization > 1).then(|| (organization - 2) / BELOW + 1)
}

fn organization_name(number: u64) -> String {
    match number {
        1 => "Football Association".into(),
        2..=11 => format!("Region {}", number - 1),
        n => {
            let club = CLUBS[usize::try_from(n % CLUBS.len() as u64).unwrap_or_default()];
            format!("{club} {n}")
        }
    }
}

/// A club, not a region.
fn a_club(r: &mut Random) -> u64 {
    12 + r.next() % (ORGANIZATIONS - 11)
}

fn season(number: u64) -> String {
    let year = 2020 + number % 6;
    format!("{year}/{}", (year + 1) % 100)
}

fn competition_name(number: u64) -> String {
    let kinds = ["League", "Cup", "Youth League", "Women's League"];
    let kind = kinds[usize::try_from(number % 4).unwrap_or_default()];
    format!("{kind} {} {}", number / 24 + 1, season(number / 4))
}

struct Person {
    first: &'static str,
    last: &'static str,
    gender: &'static str,
    born: i64,
    country: &'static str,
    photo: String,
    size: Option<(i64, i64)>,
    club: u64,
}

fn person(number: u64, seed: u64, pictures: &str) -> Person {
    let mut r = random(1, number, seed);
    let (country, men, women, families) =
        NAMES[usize::try_from(r.next() % NAMES.len() as u64).unwrap_or_default()];
    let female = r.below(2) == 0;
    let born = Date::constant(1958, 1, 1)
        .checked_add(jiff::Span::new().days(r.below(52 * 365)))
        .unwrap_or_default();
    Person {
        first: r.pick(if female { women } else { men }),
        last: r.pick(families),
        gender: if female { "FEMALE" } else { "MALE" },
        born: day(born),
        country,
        photo: match r.below(5) {
            0 => format!("{pictures}/placeholder.svg"),
            _ => format!("{pictures}/person/{number}.svg"),
        },
        size: (r.below(6) > 0).then(|| (155 + r.below(45), 48 + r.below(52))),
        club: a_club(&mut r),
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// A row of a table: the columns of its template, then `uid` and `lastUpdateDateTime`.
fn row(table: &str, number: u64, seed: u64, pictures: &str) -> Vec<Cell> {
    let n = int(number);
    match table {
        "organizations" => {
            let mut r = random(2, number, seed);
            let kind = match number {
                1 => "ASSOCIATION",
                2..=11 => "REGION",
                _ => "CLUB",
            };
            let founded = -day(Date::constant(2010, 1, 1)) + r.below(36_000) * DAY;
            vec![
                Cell::Int(n),
                above(number).map_or(Cell::Null, |a| Cell::Int(int(a))),
                text(organization_name(number)),
                text(kind),
                text(if r.below(9) == 0 { "INACTIVE" } else { "ACTIVE" }),
                Cell::Int(founded),
                text(format!("office{n}@example.org")),
                Cell::Int(n),
                Cell::Int(START + r.below(6 * 365) * DAY),
            ]
        }
        "persons" => {
            let p = person(number, seed, pictures);
            let mut r = random(3, number, seed);
            vec![
                Cell::Int(100_000 + n),
                text(p.first),
                text(p.last),
                text(p.gender),
                Cell::Int(p.born),
                text(p.country),
                p.size.map_or(Cell::Null, |s| Cell::Int(s.0)),
                p.size.map_or(Cell::Null, |s| Cell::Int(s.1)),
                text(p.photo),
                Cell::Int(int(p.club)),
                text(organization_name(p.club)),
                Cell::Int(100_000 + n),
                Cell::Int(START + r.below(6 * 365 * 86_400) * 1000),
            ]
        }
        "competitions" => {
            let mut r = random(4, number, seed);
            let start = START + int(number / 4 % 6) * 365 * DAY + r.below(60) * DAY;
            vec![
                Cell::Int(n),
                text(competition_name(number)),
                text(["LEAGUE", "CUP", "LEAGUE", "LEAGUE"][usize::try_from(number % 4).unwrap_or_default()]),
                text(season(number / 4)),
                Cell::Int(1 + int(number % 11)),
                text(organization_name(1 + number % 11)),
                Cell::Int(start),
                Cell::Int(start + 270 * DAY),
                Cell::Number(format!("{}.{:02}", r.below(50_000), r.below(100))),
                text("EUR"),
                Cell::Int(n),
                Cell::Int(start + r.below(200) * DAY),
            ]
        }
        "matches" => {
            let mut r = random(5, number, seed);
            let competition = number % COMPETITIONS;
            let (home, away) = (a_club(&mut r), a_club(&mut r));
            let at = START
                + int(competition / 4 % 6) * 365 * DAY
                + r.below(270) * DAY
                + (12 + r.below(9)) * 3_600_000;
            let played = r.below(12) > 0;
            let goals = |r: &mut Random| if played { Cell::Int(r.below(5)) } else { Cell::Null };
            let referee = 1 + r.next() % 5000;
            let who = person(referee, seed, pictures);
            vec![
                Cell::Int(n),
                Cell::Int(at),
                text(format!(
                    "{} : {}",
                    organization_name(home),
                    organization_name(away)
                )),
                Cell::Int(int(home)),
                text(organization_name(home)),
                Cell::Int(int(away)),
                text(organization_name(away)),
                goals(&mut r),
                goals(&mut r),
                text(competition_name(competition)),
                text(season(competition / 4)),
                Cell::Int(1 + r.below(34)),
                text(if played { "PLAYED" } else { "SCHEDULED" }),
                text(format!(
                    "{} Stadium",
                    CLUBS[usize::try_from(home % CLUBS.len() as u64).unwrap_or_default()]
                )),
                Cell::Int(100_000 + int(referee)),
                text(format!("{} {}", who.first, who.last)),
                Cell::Int(1_000_000 + n),
                Cell::Int(at + r.below(48) * 3_600_000),
            ]
        }
        "discipline" => {
            let mut r = random(6, number, seed);
            let offender = 1 + r.next() % 50_000;
            let who = person(offender, seed, pictures);
            let decided = START + r.below(6 * 365) * DAY;
            vec![
                Cell::Int(n),
                Cell::Int(100_000 + int(offender)),
                text(format!("{} {}", who.first, who.last)),
                Cell::Int(int(who.club)),
                text(organization_name(who.club)),
                text(r.pick(&["SECOND_YELLOW", "SERIOUS_FOUL", "ABUSE", "DOPING", "MANIPULATION"])),
                text(r.pick(&["OPEN", "DECIDED", "DECIDED", "APPEALED"])),
                Cell::Int(r.below(12)),
                Cell::Number(format!("{}.00", r.below(40) * 50)),
                text("EUR"),
                Cell::Int(decided),
                Cell::Int(n),
                Cell::Int(decided + r.below(90) * DAY),
            ]
        }
        // "registrations"
        _ => {
            let p = person(number, seed, pictures);
            let mut r = random(7, number, seed);
            let registered = START + r.below(6 * 365 * 86_400) * 1000;
            vec![
                Cell::Int(100_000 + n),
                text(p.first),
                text(p.last),
                text(p.gender),
                Cell::Int(p.born),
                text(p.country),
                text(r.pick(LEVELS)),
                p.size.map_or(Cell::Null, |s| Cell::Int(s.0)),
                p.size.map_or(Cell::Null, |s| Cell::Int(s.1)),
                text(p.photo),
                Cell::Int(int(p.club)),
                text(organization_name(p.club)),
                text(r.pick(STATUSES)),
                Cell::Int(registered),
                Cell::Int(500_000 + n),
                Cell::Int(registered + r.below(90 * 86_400) * 1000),
            ]
        }
    }
}

/// The rows of a sample, one after the other: the columns of the template in their order, then `uid` and
/// `lastUpdateDateTime`. `pictures` is the public address of the folder of pictures.
pub fn sample_rows<'a>(
    table: &'a str,
    size: u64,
    seed: u64,
    pictures: &'a str,
) -> impl Iterator<Item = Vec<Cell>> + 'a {
    (1..=size.min(MAX_SAMPLE_ROWS)).map(move |number| row(table, number, seed, pictures))
}

/// Puts a sample and the tree of organizations into a new database file, to be asked with a query.
///
/// # Errors
/// The disk is full.
pub fn stage_sample(
    template: &Template,
    (size, seed): (u64, u64),
    pictures: &str,
    path: &Path,
) -> Result<(), SourceError> {
    let mut stage = Stage::create(path)?;
    let mut fill = |template: &Template, size: u64| {
        let columns = crate::starter::stage_columns(template, ColumnType::Number);
        stage.table(&template.table, &columns, |push| {
            sample_rows(&template.table, size, seed, pictures).try_for_each(|row| push(&row))
        })
    };
    fill(template, size)?;
    if template.table != "organizations"
        && let Some(tree) = crate::starter().iter().find(|t| t.table == "organizations")
    {
        fill(tree, ORGANIZATIONS)?;
    }
    stage.finish()
}
