//! Cuts what a job writes into lines.

/// The longest line, in bytes. A longer one comes in pieces: whoever writes without line ends costs no more memory than others.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Takes whole lines off the front, each with its length in bytes. With `last`, also what is left without a line end.
pub(crate) fn split(bytes: &[u8], last: bool) -> Vec<(String, usize)> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .take(MAX_LINE + 1)
            .position(|&byte| byte == b'\n');
        let (line, length) = match end {
            Some(end) => (
                rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]),
                end + 1,
            ),
            None if rest.len() > MAX_LINE => {
                let length = piece_length(rest);
                (&rest[..length], length)
            }
            None if last => (rest, rest.len()),
            None => break,
        };
        lines.push((String::from_utf8_lossy(line).into_owned(), length));
        rest = &rest[length..];
    }
    lines
}

/// The length of the first piece of a line that is too long, so that no character is cut apart.
fn piece_length(line: &[u8]) -> usize {
    let is_boundary = |at: &usize| line[*at] & 0b1100_0000 != 0b1000_0000;
    (MAX_LINE - 3..=MAX_LINE)
        .rev()
        .find(is_boundary)
        .unwrap_or(MAX_LINE)
}

#[cfg(test)]
mod tests;
