//! Splits a command a person wrote into arguments, as the reference does: like a POSIX shell reads quotes and
//! backslashes, and nothing else a shell does.
//!
//! The rules are those of Python's `shlex.split`, which differ from a shell's (and from the `shlex` crate's) in that `#` is an ordinary
//! character and that inside double quotes a backslash only escapes `"` and `\`.

/// Why a command line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is opened and never closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// The line ends in a backslash.
    #[error("the line ends in a backslash")]
    OpenEscape,
}

/// Splits a line into arguments. A blank line has none.
///
/// # Errors
/// [`SplitError`] when a quote or an escape is left open.
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut arguments = Vec::new();
    let mut argument: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => arguments.extend(argument.take()),
            '\\' => {
                let escaped = rest.next().ok_or(SplitError::OpenEscape)?;
                argument.get_or_insert_default().push(escaped);
            }
            '\'' => single_quoted(&mut rest, argument.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, argument.get_or_insert_default())?,
            plain => argument.get_or_insert_default().push(plain),
        }
    }
    arguments.extend(argument);
    Ok(arguments)
}

/// Reads up to and over the closing quote.
fn single_quoted(rest: &mut std::str::Chars<'_>, argument: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next().ok_or(SplitError::OpenQuote)? {
            '\'' => return Ok(()),
            inside => argument.push(inside),
        }
    }
}

/// Reads up to and over the closing quote.
fn double_quoted(rest: &mut std::str::Chars<'_>, argument: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next().ok_or(SplitError::OpenQuote)? {
            '"' => return Ok(()),
            '\\' => match rest.next().ok_or(SplitError::OpenEscape)? {
                escaped @ ('"' | '\\') => argument.push(escaped),
                other => argument.extend(['\\', other]),
            },
            inside => argument.push(inside),
        }
    }
}

#[cfg(test)]
mod tests;
