use serde_json::json;

use super::Step;

#[test]
fn a_command_says_how_its_pod_begins() {
    let pod = |words: &[&str]| json!({"spec": {"containers": [{"name": "main", "args": words}]}});
    assert_eq!(Step::read(&pod(&["play"])), [Step::Start, Step::Exit(0)]);
    let steps = Step::read(&pod(&["play", "wait:ImagePullBackOff", "start", "exit:3"]));
    let wait = Step::Wait("ImagePullBackOff".to_owned());
    assert_eq!(steps, [wait, Step::Start, Step::Exit(3)]);
    let status = steps[2].status(&pod(&[]));
    assert_eq!(status["phase"], "Failed");
    let state = &status["containerStatuses"][0]["state"];
    assert_eq!(state["terminated"]["exitCode"], 3);
}
