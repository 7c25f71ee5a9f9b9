//! What differs between two stories, line by line.

use std::collections::BTreeSet;

use crate::story::Story;

/// What differs in one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The aspect.
    pub(crate) aspect: String,
    /// Lines that only the truth has.
    pub(crate) theirs: Vec<String>,
    /// Lines that only the other has.
    pub(crate) ours: Vec<String>,
}

/// The aspects in which two stories differ.
pub(crate) fn gaps(truth: &Story, other: &Story) -> Vec<Gap> {
    let aspects: BTreeSet<&String> = truth.keys().chain(other.keys()).collect();
    aspects
        .into_iter()
        .filter_map(|aspect| {
            let none = Vec::new();
            let (theirs, ours) = unshared(
                truth.get(aspect).unwrap_or(&none),
                other.get(aspect).unwrap_or(&none),
            );
            (!theirs.is_empty() || !ours.is_empty()).then(|| Gap {
                aspect: aspect.clone(),
                theirs,
                ours,
            })
        })
        .collect()
}

/// The lines of each side that are not in their longest common subsequence.
fn unshared(a: &[String], b: &[String]) -> (Vec<String>, Vec<String>) {
    // `length[i][j]` is the length of the longest common subsequence of what begins at `i` and `j`.
    let mut length = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i][j] = if a[i] == b[j] {
                length[i + 1][j + 1] + 1
            } else {
                length[i + 1][j].max(length[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut only_a, mut only_b) = (vec![], vec![]);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && length[i + 1][j] >= length[i][j + 1]) {
            only_a.push(a[i].clone());
            i += 1;
        } else {
            only_b.push(b[j].clone());
            j += 1;
        }
    }
    (only_a, only_b)
}

#[test]
fn lines_of_one_side_are_found_in_their_order() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        unshared(&lines("a b c d"), &lines("a x c y d")),
        (lines("b"), lines("x y"))
    );
    assert_eq!(
        unshared(&lines("a b"), &lines("b a")),
        (lines("a"), lines("a"))
    );
    assert_eq!(unshared(&[], &lines("a")), (vec![], lines("a")));
}
