//! The templates that every installation has: Encke's own data and the sample association.

use crate::source::{OnRow, SourceError, Stage, StageColumn};
use crate::template::{ColumnType, ENCKE, Template};
use std::path::Path;
use std::sync::LazyLock;

/// Numbers below are the starter set's; templates that people make begin here.
pub const FIRST_OWN_TEMPLATE: i64 = 10_001;

static STARTER: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let read = |text| -> Vec<Template> { serde_yaml_ng::from_str(text).unwrap_or_default() };
    let mut all = read(include_str!("../templates/encke.yaml"));
    all.extend(read(include_str!("../templates/sample.yaml")));
    all
});

/// The starter set.
#[must_use]
pub fn starter() -> &'static [Template] {
    &STARTER
}

/// Puts a table of Encke's own data into a new database file. Rows have the columns of the starter template of that
/// table, then `uid` and `lastUpdateDateTime`.
///
/// # Errors
/// There is no such table, the disk is full, or `fill` fails.
pub fn stage_own<F>(table: &str, path: &Path, fill: F) -> Result<(), SourceError>
where
    F: FnOnce(OnRow) -> Result<(), SourceError>,
{
    let Some(template) = starter().iter().find(|t| t.source == ENCKE && t.table == table) else {
        return Err(crate::Refused(format!("There is no table '{table}' of Encke's own")).into());
    };
    let mut stage = Stage::create(path)?;
    stage.table(table, &stage_columns(template, ColumnType::String), fill)?;
    stage.finish()
}

/// The columns of a starter template's table.
pub(crate) fn stage_columns(template: &Template, uid: ColumnType) -> Vec<StageColumn> {
    let ours = [("uid", uid), ("lastUpdateDateTime", ColumnType::DateTime)];
    let theirs = template.columns.iter().map(|c| (c.key.as_str(), c.kind));
    let named = theirs.chain(ours).map(|(name, kind)| StageColumn {
        name: name.into(),
        kind,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_set_is_whole_and_survives_yaml() {
        assert_eq!(starter().len(), 14);
        for template in starter() {
            let yaml = template.to_yaml().expect("printed");
            assert_eq!(&Template::parse(&yaml).expect("read"), template);
            assert!(template.columns.iter().all(|c| c.names.contains_key("de")));
        }
    }
}
