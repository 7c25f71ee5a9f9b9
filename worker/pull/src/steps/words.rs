//! A line of a script as words, and its variables, as the reference reads both (Python's `shlex.split` and `string.Template`, 3.8.8).

/// Splits a line into words as a POSIX shell would, with nothing expanded and no comments. None: a quote is not closed.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => {
                            let escaped = rest.next()?;
                            if !matches!(escaped, '"' | '\\') {
                                word.push('\\');
                            }
                            word.push(escaped);
                        }
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next()?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// The lines of a text, as Python's `str.splitlines` has them: they end at more than line feeds.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    const ENDS: [char; 9] = [
        '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    text.lines().flat_map(|line| line.split(ENDS))
}

/// Puts variables in for `$NAME` and `${NAME}`; `$$` is a dollar, and a name that nothing answers for stays.
pub(super) fn expand(line: &str, find: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, width) = match after.strip_prefix('{') {
            Some(braced) => {
                let name = name_of(braced);
                let closed = braced[name.len()..].starts_with('}');
                (if closed { name } else { "" }, name.len() + 2)
            }
            None => (name_of(after), name_of(after).len()),
        };
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(value) = Some(name).filter(|name| !name.is_empty()).and_then(&find) {
            out.push_str(&value);
            rest = &after[width..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn name_of(text: &str) -> &str {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests;
