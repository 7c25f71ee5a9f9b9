//! Where our Kubernetes worker differs from the Python one on purpose.

use crate::expected::{Difference, Trace, assert_documented};

/// All of them.
pub(super) const DIFFERENCES: &[Difference] = &[];

#[test]
fn the_document_lists_the_differences_and_no_others() {
    assert_documented(DIFFERENCES, "tests/kubernetes/DIFFERENCES.md");
}
