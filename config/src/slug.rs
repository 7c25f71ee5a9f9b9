//! Texts made fit for names and labels, as the reference makes them.
//!
//! It uses `python-slugify` over `text-unidecode`; people know their infrastructure by what those two make of a flow's name. Which
//! characters a name may have, and how long it may be, is said by who needs the name.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;

/// What a slug may look like.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The longest it may be, in characters.
    pub longest: usize,
    /// Whether upper case becomes lower case.
    pub lowercase: bool,
    /// Which characters stay, besides ASCII letters, digits and `-`.
    pub keep: &'static [char],
}

/// Symbols for which the reference writes `[?]`, that is a separator.
const UNKNOWN_SYMBOLS: [(char, char); 16] = [
    ('\u{204e}', '\u{2069}'),
    ('\u{208f}', '\u{209f}'),
    ('\u{20b0}', '\u{20cf}'),
    ('\u{20e4}', '\u{20ff}'),
    ('\u{2141}', '\u{214f}'),
    ('\u{2184}', '\u{218f}'),
    ('\u{21f4}', '\u{23ff}'),
    ('\u{2427}', '\u{243f}'),
    ('\u{244b}', '\u{24ff}'),
    ('\u{2614}', '\u{2618}'),
    ('\u{2672}', '\u{2700}'),
    ('\u{27b0}', '\u{27b0}'),
    ('\u{27bf}', '\u{27ff}'),
    ('\u{2900}', '\u{2fff}'),
    ('\u{fe24}', '\u{fe46}'),
    ('\u{ff00}', '\u{fff8}'),
];

/// Symbols for which the reference writes nothing.
const DROPPED_SYMBOLS: [(char, char); 8] = [
    ('\u{2104}', '\u{213a}'),
    ('\u{2400}', '\u{2426}'),
    ('\u{2440}', '\u{244a}'),
    ('\u{2600}', '\u{2613}'),
    ('\u{2619}', '\u{2671}'),
    ('\u{2701}', '\u{275e}'),
    ('\u{2761}', '\u{27af}'),
    ('\u{27b1}', '\u{27be}'),
];

/// Makes a slug. It may be empty, and begin or end with any character that `keep` names.
///
/// Letters of other scripts are transliterated, pictures are dropped, and every run of what may not stay becomes one `-`.
pub fn slug(text: &str, rules: Rules) -> String {
    let Rules {
        longest,
        lowercase,
        keep,
    } = rules;
    let text = transliterate(&text.replace('\'', "-"));
    let text = without_thousands_separators(&text.replace('\'', ""));
    let mut slug = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || (c != '-' && keep.contains(&c)) {
            slug.push(if lowercase { c.to_ascii_lowercase() } else { c });
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_matches('-');
    // Every character is ASCII by now.
    slug[..slug.len().min(longest)].trim_matches('-').to_owned()
}

fn transliterate(text: &str) -> String {
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(text);
    let mut out = String::with_capacity(decomposed.len());
    for c in decomposed.chars() {
        out.push_str(&ascii(c));
    }
    out
}

fn ascii(c: char) -> Cow<'static, str> {
    let among =
        |ranges: &[(char, char)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
    if c.is_ascii() {
        Cow::Owned(c.to_string())
    } else if c > '\u{ffff}' || among(&DROPPED_SYMBOLS) {
        Cow::Borrowed("")
    } else if among(&UNKNOWN_SYMBOLS) {
        Cow::Borrowed("[?]")
    } else {
        Cow::Borrowed(deunicode::deunicode_char(c).unwrap_or_default())
    }
}

fn without_thousands_separators(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let between = out.ends_with(|c: char| c.is_ascii_digit())
            && rest.peek().is_some_and(char::is_ascii_digit);
        if !(c == ',' && between) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
