//! Sizes as people write them for Docker: `512m`, `1.5gb`, `1073741824`.

use serde_json::Value;

use crate::{
    driver::DriverError,
    fields::{invalid, refused},
};

/// Bytes of a size: a number, or a text of a number and a unit of `b`, `k`, `m`, `g` or `t` with an optional `b` behind it. Units are powers of 1024
/// (docker-py 7.2.0, `parse_bytes`). `-1` is left as it is: it means no limit where that can be said.
pub(super) fn bytes(field: &str, size: &Value) -> Result<i64, DriverError> {
    match size {
        Value::Number(number) => number
            .as_i64()
            .ok_or_else(|| invalid(field, "a whole number of bytes", size)),
        Value::String(text) => bytes_in(field, text),
        other => Err(invalid(field, "a size such as 512m", other)),
    }
}

/// The same for what can only be a text.
pub(super) fn bytes_in(field: &str, text: &str) -> Result<i64, DriverError> {
    let wrong = || {
        refused(
            field,
            format!("must be a size such as 512m, and is '{text}'"),
        )
    };
    let trimmed = text.trim();
    if let Ok(bytes) = trimmed.parse::<i64>() {
        return Ok(bytes);
    }
    let lower = trimmed.to_ascii_lowercase();
    let number_end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(wrong)?;
    let (number, unit) = lower.split_at(number_end);
    let unit: u32 = match unit {
        "b" => 0,
        "k" | "kb" => 1,
        "m" | "mb" => 2,
        "g" | "gb" => 3,
        "t" | "tb" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * f64::from(1u32 << 10).powi(unit.cast_signed());
    whole(bytes).ok_or_else(wrong)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what follows a point is cut off, as the reference does, and it is far from the bounds"
)]
fn whole(bytes: f64) -> Option<i64> {
    (0.0..9e18).contains(&bytes).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::bytes;

    #[test]
    fn sizes_are_read_as_docker_py_reads_them() {
        for (size, expected) in [
            (json!(1024), 1024),
            (json!("1024"), 1024),
            (json!("5b"), 5),
            (json!("1k"), 1024),
            (json!("128m"), 128 << 20),
            (json!("1gb"), 1 << 30),
            (json!("1.5G"), 3 << 29),
            (json!("-1"), -1),
            (json!(-1), -1),
        ] {
            assert_eq!(bytes("x", &size).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_the_name_of_its_field() {
        for size in [
            json!("1GiB"),
            json!("many"),
            json!("m"),
            json!(true),
            json!(""),
        ] {
            let error = bytes("mem_limit", &size).unwrap_err();
            assert!(error.to_string().starts_with("mem_limit: "), "{error}");
        }
    }
}
