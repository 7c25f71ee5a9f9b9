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

/// Symbols that the reference does not know. It writes `[?]`, that is a separator.
const UNKNOWN: [(u32, u32); 19] = [
    (0x204e, 0x2069),
    (0x208f, 0x209f),
    (0x20b0, 0x20cf),
    (0x20e4, 0x20ff),
    (0x2141, 0x214f),
    (0x2184, 0x218f),
    (0x21f4, 0x23ff),
    (0x2427, 0x243f),
    (0x244b, 0x24ff),
    (0x2614, 0x2618),
    (0x2672, 0x2700),
    (0x275f, 0x2760),
    (0x27b0, 0x27b0),
    (0x27bf, 0x27ff),
    (0x2900, 0x2fff),
    (0x303b, 0x303d),
    (0xfd40, 0xfe1f),
    (0xfe24, 0xfe46),
    (0xff00, 0xfff8),
];

/// Symbols and marks for which the reference writes nothing.
const DROPPED: [(u32, u32); 64] = [
    (0x0080, 0x009f),
    (0x00ad, 0x00ad),
    (0x02e5, 0x02eb),
    (0x0300, 0x034e),
    (0x0360, 0x0362),
    (0x0483, 0x0486),
    (0x0591, 0x05a1),
    (0x05a3, 0x05af),
    (0x05bd, 0x05bf),
    (0x05c1, 0x05c2),
    (0x05c4, 0x05c4),
    (0x0627, 0x0627),
    (0x0640, 0x0640),
    (0x0652, 0x0653),
    (0x0670, 0x0670),
    (0x06d6, 0x06dc),
    (0x06df, 0x06e8),
    (0x06e5, 0x06e6),
    (0x06ea, 0x06ed),
    (0x094d, 0x094d),
    (0x09cd, 0x09cd),
    (0x0a4d, 0x0a4d),
    (0x0a72, 0x0a73),
    (0x0acd, 0x0acd),
    (0x0b4d, 0x0b4d),
    (0x0bcd, 0x0bcd),
    (0x0c4d, 0x0c4d),
    (0x0ccd, 0x0ccd),
    (0x0dca, 0x0dca),
    (0x0e47, 0x0e4c),
    (0x0e4e, 0x0e4e),
    (0x0eb1, 0x0eb1),
    (0x0ec8, 0x0ecc),
    (0x0f8a, 0x0f8b),
    (0x1039, 0x1039),
    (0x110b, 0x110b),
    (0x1147, 0x1147),
    (0x115f, 0x1160),
    (0x17c9, 0x17cb),
    (0x17cd, 0x17cd),
    (0x17cf, 0x17d3),
    (0x1806, 0x1806),
    (0x180a, 0x180e),
    (0x200c, 0x200f),
    (0x202a, 0x202e),
    (0x206a, 0x206f),
    (0x2072, 0x2073),
    (0x20d0, 0x20e3),
    (0x2104, 0x213a),
    (0x2400, 0x2426),
    (0x2440, 0x244a),
    (0x2600, 0x2613),
    (0x2619, 0x2671),
    (0x2701, 0x275e),
    (0x2761, 0x27af),
    (0x27b1, 0x27be),
    (0x302a, 0x302f),
    (0x303e, 0x303f),
    (0x3099, 0x309a),
    (0x30fb, 0x30fc),
    (0x3190, 0x3191),
    (0xfe20, 0xfe22),
    (0xfeff, 0xfeff),
    (0xfffc, 0xffff),
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

/// What the reference writes for a character. It knows letters of Unicode 3; later ones are transliterated here as well, as is better than
/// a name without them.
fn ascii(c: char) -> Cow<'static, str> {
    let among = |ranges: &[(u32, u32)]| {
        let code = u32::from(c);
        ranges
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&code))
    };
    if c.is_ascii() {
        Cow::Owned(c.to_string())
    } else if c > '\u{ffff}' || among(&DROPPED) {
        Cow::Borrowed("")
    } else if among(&UNKNOWN) {
        Cow::Borrowed("[?]")
    } else {
        let known = deunicode::deunicode_char(c).filter(|text| !text.is_empty());
        Cow::Borrowed(known.unwrap_or("[?]"))
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
