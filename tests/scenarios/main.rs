//! x

#[test]
fn x() {}
