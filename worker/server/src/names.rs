//! Names for flow runs that nobody named.

use uuid::Uuid;

const QUALITIES: [&str; 64] = [
    "agile", "amber", "ample", "azure", "bold", "brave", "brisk", "calm", "civil", "clear",
    "coral", "crisp", "daring", "deft", "eager", "early", "fair", "fleet", "fond", "frank",
    "gentle", "glad", "golden", "grand", "hardy", "hazel", "humble", "ivory", "jolly", "just",
    "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "neat", "noble",
    "olive", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid", "ready",
    "rosy", "serene", "silver", "sleek", "solid", "spry", "steady", "sunny", "swift", "tidy",
    "trusty", "vivid", "warm", "wise",
];
const ANIMALS: [&str; 64] = [
    "adder", "auk", "badger", "bat", "bear", "beaver", "bison", "boar", "bream", "buzzard", "carp",
    "cod", "coot", "crane", "crow", "deer", "dipper", "dove", "duck", "eagle", "eel", "egret",
    "elk", "falcon", "ferret", "finch", "fox", "frog", "gecko", "goat", "goose", "grouse", "gull",
    "hare", "hawk", "heron", "ibex", "jay", "kestrel", "kite", "lark", "lynx", "marten", "mink",
    "mole", "moose", "newt", "otter", "owl", "perch", "pike", "plover", "puffin", "quail", "raven",
    "robin", "salmon", "seal", "shrew", "stork", "swan", "tern", "trout", "wren",
];

/// A quality and an animal, such as `steady-heron`.
pub(crate) fn random() -> String {
    let bytes = Uuid::new_v4().into_bytes();
    let pick = |words: &[&'static str; 64], byte: u8| words[usize::from(byte % 64)];
    format!(
        "{}-{}",
        pick(&QUALITIES, bytes[0]),
        pick(&ANIMALS, bytes[1])
    )
}
