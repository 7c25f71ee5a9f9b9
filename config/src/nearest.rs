//! The known name that somebody probably meant.

/// The known name nearest to an unknown one, if it is near enough to be a spelling mistake.
pub(crate) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // One mistake in four letters, but in short names at least one and in long ones at most three.
    let allowed = (unknown.chars().count() / 4).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(unknown, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean 'name'?`, or what there is.
pub(crate) fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.into_iter().collect();
    match nearest(unknown, known.iter().copied()) {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("known are {}", known.join(", ")),
    }
}
