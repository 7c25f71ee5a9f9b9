use std::collections::BTreeSet;

use super::{KNOWN, SETTINGS, Setting};

#[test]
fn every_line_is_a_setting_with_names_of_its_own() {
    assert_eq!(SETTINGS.len(), KNOWN.lines().count());
    let names: Vec<_> = SETTINGS.iter().flat_map(Setting::names).collect();
    assert!(names.iter().all(|name| name.starts_with("PREFECT_")));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}
