//! Statements of reports against a naive filter, sort and group over the same rows, on tables whose names and values
//! are anything that text can be.

#![allow(clippy::unwrap_used)]

use encke_reports::query::{Builder, Dialect, Table, TableColumn};
use encke_reports::source::{Stage, StageColumn, open_file};
use encke_reports::{
    Cell, Chosen, Column, ColumnType, Filter, Op, SavedReport, Sort, Template, Total, Values,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Names and values that break what is not quoted.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"; DROP TABLE t; --".to_string()),
        Just("a\"b".to_string()),
        Just("'); DELETE FROM t; --".to_string()),
        Just("c0".to_string()),
        Just("select".to_string()),
        Just("100%_!".to_string()),
        Just("\\".to_string()),
        Just("?1 $1 :x @y".to_string()),
        "[^\u{0}]{1,12}",
        "[a-c]{1,2}",
    ]
}

fn template(table: &str, text: &str, number: &str) -> Template {
    let column = |key: &str, kind, source: &str| Column {
        key: key.into(),
        kind,
        column: Some(source.into()),
        names: BTreeMap::new(),
    };
    Template {
        id: 1,
        name: "t".into(),
        group: String::new(),
        source: "x".into(),
        table: table.into(),
        uid: None,
        updated: None,
        columns: vec![
            column("t", ColumnType::String, text),
            column("n", ColumnType::Number, number),
        ],
        parameters: Vec::new(),
    }
}

fn report(columns: &[(&str, Option<Total>)], filters: Vec<Filter>) -> SavedReport {
    SavedReport {
        name: "r".into(),
        template: 1,
        columns: columns
            .iter()
            .map(|(key, total)| Chosen {
                key: (*key).into(),
                name: None,
                total: *total,
            })
            .collect(),
        data: None,
        fresh_seconds: None,
        parameters: BTreeMap::new(),
        filters,
        sort: vec![],
        group: vec![],
        pivot: None,
        chart: None,
    }
}

fn filter(column: &str, op: Op, value: Cell) -> Filter {
    Filter {
        column: column.into(),
        op,
        value: Values::One(value),
    }
}

/// What a filter keeps, told without SQL.
fn keeps(op: Op, cell: &Cell, with: &Cell) -> bool {
    let lower = |c: &Cell| c.text().to_lowercase();
    match (op, cell) {
        (Op::Ne, Cell::Null) => true,
        (_, Cell::Null) => false,
        (Op::Eq, c) => c == with,
        (Op::Ne, c) => c != with,
        (Op::Lt, c) => c < with,
        (Op::Le, c) => c <= with,
        (Op::Gt, c) => c > with,
        (Op::Ge, c) => c >= with,
        (Op::Contains, c) => lower(c).contains(&lower(with)),
        (Op::StartsWith, c) => lower(c).starts_with(&lower(with)),
        _ => unreachable!("not tested here"),
    }
}

fn ops(text: bool) -> impl Strategy<Value = Op> {
    let mut all = vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];
    if text {
        all.extend([Op::Contains, Op::StartsWith]);
    }
    proptest::sample::select(all)
}

type Case = (String, String, String, Vec<(Option<String>, Option<i64>)>);

fn cases() -> impl Strategy<Value = Case> {
    let row = (proptest::option::of(nasty()), proptest::option::of(-3i64..4));
    // SQLite takes names that differ in the case of ASCII letters for the same, and reserves a prefix for tables.
    (nasty(), nasty(), nasty(), proptest::collection::vec(row, 0..25)).prop_filter(
        "names",
        |(table, a, b, _)| {
            a.to_lowercase() != b.to_lowercase() && !table.to_lowercase().starts_with("sqlite_")
        },
    )
}

fn cells(rows: &[(Option<String>, Option<i64>)]) -> Vec<Vec<Cell>> {
    let cell = |(t, n): &(Option<String>, Option<i64>)| {
        vec![
            t.clone().map_or(Cell::Null, Cell::Text),
            n.map_or(Cell::Null, Cell::Int),
        ]
    };
    rows.iter().map(cell).collect()
}

fn ask(case: &Case, report: &SavedReport) -> Vec<Vec<Cell>> {
    let (table, text, number, rows) = case;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.db");
    let column = |name: &String, kind| StageColumn {
        name: name.clone(),
        kind,
    };
    let columns = [
        column(text, ColumnType::String),
        column(number, ColumnType::Number),
    ];
    let mut stage = Stage::create(&path).unwrap();
    stage
        .table(table, &columns, |push| {
            cells(rows).iter().try_for_each(|r| push(r))
        })
        .unwrap();
    stage.finish().unwrap();
    let mut database = open_file(&path).unwrap();
    let tables = database.tables().unwrap();
    let template = template(table, text, number);
    report.check(&template).unwrap();
    let builder = Builder::new(Dialect::Sqlite, &template, &tables).unwrap();
    let query = builder.rows(report, &[], None).unwrap();
    database.all(&query).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn filters_and_sorts_as_a_loop_would(
        case in cases(), text_op in ops(true), with in nasty(), number_op in ops(false), number in -3i64..4,
        descending: bool,
    ) {
        let (with, number) = (Cell::Text(with), Cell::Int(number));
        let mut wanted = report(&[("n", None), ("t", None)], vec![
            filter("t", text_op, with.clone()), filter("n", number_op, number.clone()),
        ]);
        wanted.sort = vec![Sort { column: "n".into(), descending }, Sort { column: "t".into(), descending: false }];
        let mut expected: Vec<Vec<Cell>> = cells(&case.3).into_iter()
            .filter(|r| keeps(text_op, &r[0], &with) && keeps(number_op, &r[1], &number))
            .map(|r| vec![r[1].clone(), r[0].clone()])
            .collect();
        // Values that are missing come last, whichever the direction.
        expected.sort_by(|a, b| {
            let null = |c: &Cell| *c == Cell::Null;
            let first = a[0].cmp(&b[0]);
            null(&a[0]).cmp(&null(&b[0])).then(if descending { first.reverse() } else { first })
                .then(null(&a[1]).cmp(&null(&b[1]))).then(a[1].cmp(&b[1]))
        });
        prop_assert_eq!(ask(&case, &wanted), expected);
    }

    #[test]
    fn groups_as_a_map_would(case in cases()) {
        let mut wanted = report(&[("t", None), ("n", Some(Total::Sum))], vec![]);
        wanted.group = vec!["t".into()];
        let mut groups: BTreeMap<(bool, Cell), Option<i64>> = BTreeMap::new();
        for row in cells(&case.3) {
            let sum = groups.entry((row[0] == Cell::Null, row[0].clone())).or_default();
            if let Cell::Int(n) = row[1] {
                *sum = Some(sum.unwrap_or(0) + n);
            }
        }
        let expected: Vec<Vec<Cell>> = groups.into_iter()
            .map(|((_, text), sum)| vec![text, sum.map_or(Cell::Null, Cell::Int)])
            .collect();
        prop_assert_eq!(ask(&case, &wanted), expected);
    }

    /// The text of a statement depends on the shape of the report alone: values are nowhere in it.
    #[test]
    fn values_never_enter_the_text(a in nasty(), b in nasty(), op in ops(true), n in any::<i64>(), m in any::<i64>()) {
        let columns = vec![
            TableColumn { name: "t".into(), kind: ColumnType::String },
            TableColumn { name: "n".into(), kind: ColumnType::Number },
        ];
        let tables = [Table { schema: None, name: "d".into(), columns }];
        let template = template("d", "t", "n");
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql] {
            let text = |t: &str, n: i64| {
                let many = Filter { column: "t".into(), op: Op::In, value: Values::Many(vec![t.into(), "x".into()]) };
                let filters = vec![filter("t", op, t.into()), filter("n", Op::Ge, n.into()), many];
                let report = report(&[("t", None)], filters);
                report.check(&template).unwrap();
                let query = Builder::new(dialect, &template, &tables).unwrap().rows(&report, &[], Some(5)).unwrap();
                assert_eq!(query.params.len(), 4);
                query.sql
            };
            prop_assert_eq!(text(&a, n), text(&b, m));
        }
    }

    /// A name that the source does not have is refused before anything is asked.
    #[test]
    fn names_are_checked_against_the_schema(name in nasty()) {
        prop_assume!(name != "t" && name != "d");
        let columns = vec![TableColumn { name: "t".into(), kind: ColumnType::String }];
        let tables = [Table { schema: None, name: "d".into(), columns }];
        for bad in [template(&name, "t", "t"), template("d", &name, "t")] {
            prop_assert!(Builder::new(Dialect::Postgres, &bad, &tables).is_err());
        }
        let template = template("d", "t", "t");
        let filters = vec![filter(&name, Op::Eq, "x".into())];
        prop_assert!(name == "n" || report(&[("t", None)], filters).check(&template).is_err());
        prop_assert!(name == "n" || report(&[(&name, None)], vec![]).check(&template).is_err());
    }
}
