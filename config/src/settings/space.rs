//! Amounts of disk space as people write them, and whether a disk has that much.

use std::fmt;

use super::DiskFloor;

/// What would be right, for errors.
pub(super) const EXPECTED: &str = "must be a number of bytes, one with a unit as in 500MB or 2GiB, or a share of the disk as in 5%";

// === impl DiskFloor ===

impl DiskFloor {
    /// How many bytes that is of a disk with `whole` bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a disk is a rough number, which is not negative"
            )]
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

/// `500 MB`, `5 % of it`.
impl fmt::Display for DiskFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} MB", bytes.div_ceil(1_000_000)),
            Self::Percent(percent) => write!(f, "{percent} % of it"),
        }
    }
}

// === functions ===

/// Reads `500000000`, `500MB`, `1.5 GiB` or, as a share of the disk, `5%`.
pub(super) fn parse(text: &str) -> Option<DiskFloor> {
    let text = text.trim();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim_end().parse().ok()?;
        let legal = (0.0..=100.0).contains(&percent);
        return legal.then_some(DiskFloor::Percent(percent));
    }
    bytes(text).map(DiskFloor::Bytes)
}

/// Reads `500000000`, `500MB` or `1.5 GiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1_u64 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let number: f64 = number.parse().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a unit is a rough number, which is not negative"
    )]
    let bytes = (number * factor as f64) as u64;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_so_much_of_a_disk() {
        assert_eq!(DiskFloor::Bytes(7).of(100), 7);
        assert_eq!(DiskFloor::Percent(5.0).of(1000), 50);
        assert_eq!(DiskFloor::Bytes(500_000_000).to_string(), "500 MB");
        assert_eq!(DiskFloor::Percent(2.5).to_string(), "2.5 % of it");
    }

    #[test]
    fn space_is_read_in_bytes_units_and_shares() {
        assert_eq!(parse("0"), Some(DiskFloor::Bytes(0)));
        assert_eq!(parse("500MB"), Some(DiskFloor::Bytes(500_000_000)));
        assert_eq!(parse("1.5 GiB"), Some(DiskFloor::Bytes(3 << 29)));
        assert_eq!(parse(" 5 % "), Some(DiskFloor::Percent(5.0)));
        for wrong in [
            "",
            "-1",
            "101%",
            "-1%",
            "NaN%",
            "5 apples",
            "1.2.3",
            "99999999999TiB",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
